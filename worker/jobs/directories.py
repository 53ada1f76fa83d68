"""Where a transfer's bytes lie until they are in place: `<volume>/.haul/<transfer>/<engine>`."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

WORK = ".haul"


def work_directory(volume: str, transfer: str, engine: str) -> str:
    """The directory a transfer has on one engine, alone."""
    return str(Path(volume, WORK, transfer, engine))


def delete_work_directory(directory: str) -> None:
    """Remove it, and the transfer's own when no other engine has one there; idempotent."""
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        Path(directory).parent.rmdir()
