"""Files that outlive a loss of power, each whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def put(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file, for its owner alone; it has its name, in the place of any other, once all of it is on the disk.

    That the name is there as well is known when its directory is `synced`; those that are made here are.
    """
    _made(path.parent)
    fresh = path.with_name(f".{path.name}.restoring")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def synced(directory: Path) -> None:
    """Names in this directory outlive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _made(directory: Path) -> None:
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in missing:
        synced(each.parent)
