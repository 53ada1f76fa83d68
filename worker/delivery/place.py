"""Moves on disk that can be run twice: link and unlink, never over anything, durable when they return."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.delivery.names import numbered

NUMBERS_MAX = 10_000
BLOCK_BYTES = 1 << 20
PART = ".haul-part"


class Taken(Exception):
    """Something else stands at the destination."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file to move: from an absolute path to an absolute path."""

    source: Path
    destination: Path
    size: int


def free_place(directory: Path, name: str) -> Path:
    """The first of `name`, `name (1)`, … that does not exist in the directory.

    Raises:
        FileExistsError: none of them is free.
    """
    for number in range(NUMBERS_MAX):
        place = directory / numbered(name, number)
        if not os.path.lexists(place):
            return place
    raise FileExistsError(errno.EEXIST, "too many files of that name", str(directory / name))


def move(pieces: Sequence[Piece]) -> None:
    """Bring every piece to its destination and make that durable; may be run again after a crash at any point.

    Raises:
        Taken: a destination holds something that is not ours.
        FileNotFoundError: a piece is at neither place.
        OSError: the file system refused (full, read-only, …); nothing is lost.
    """
    for piece in pieces:
        piece.destination.parent.mkdir(parents=True, exist_ok=True)
        _move(piece)
    for directory in {piece.destination.parent for piece in pieces}:
        _sync(directory)
    for piece in pieces:
        piece.source.unlink(missing_ok=True)


def sha256(path: Path, beat: Callable[[], None] = lambda: None) -> str:
    """The checksum of a file; `beat` is called after each block, to stop or to show life."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
        beat()
    return digest.hexdigest()


def sync_files(paths: Sequence[Path]) -> None:
    """Make the content of the files durable."""
    for path in paths:
        _sync(path)


def _move(piece: Piece) -> None:
    if not piece.source.exists():
        if piece.destination.is_file() and piece.destination.stat().st_size == piece.size:
            return  # moved before
        raise FileNotFoundError(errno.ENOENT, "it is neither in the work directory nor in place", str(piece.source))
    try:
        os.link(piece.source, piece.destination, follow_symlinks=False)
    except FileExistsError:
        if not piece.destination.samefile(piece.source):
            raise Taken(str(piece.destination)) from None
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        _copy(piece)


def _copy(piece: Piece) -> None:
    """Across file systems, or where there are no links: a full, durable copy under another name, then its own name."""
    part = piece.destination.with_name(piece.destination.name[:200] + PART)
    shutil.copyfile(piece.source, part)
    _sync(part)
    try:
        os.link(part, piece.destination)
    except FileExistsError:
        part.unlink()
        raise Taken(str(piece.destination)) from None
    except OSError:
        if piece.destination.exists():
            raise Taken(str(piece.destination)) from None
        part.replace(piece.destination)
        return
    part.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
