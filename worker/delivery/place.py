"""Files put in their place by a link, or a copy across file systems: never over anything, durable on return, and can be run twice."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.delivery.names import numbered

NUMBERS_MAX = 10_000
BLOCK_BYTES = 1 << 20
PART = ".haul-part"
#: The coarsest time stamps of a file system, those of FAT.
MTIME_GRAIN_NS = 2_000_000_000


class Taken(Exception):
    """Something else stands at the destination."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file to put in place: from an absolute path to an absolute path."""

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


def put(pieces: Sequence[Piece], beat: Callable[[], None] = lambda: None) -> None:
    """Make every piece stand at its destination too, durably; the sources stay. May be run again after a crash at any point.

    Args:
        beat: called after each block that is copied, to show life.

    Raises:
        Taken: a destination holds something that is not ours.
        BlockingIOError: another process copies a piece at this moment.
        OSError: the file system refused (full, read-only, …); nothing is lost.
    """
    for piece in pieces:
        piece.destination.parent.mkdir(parents=True, exist_ok=True)
        _put(piece, beat)
    for directory in {piece.destination.parent for piece in pieces}:
        _sync(directory)


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


def _put(piece: Piece, beat: Callable[[], None]) -> None:
    try:
        os.link(piece.source, piece.destination, follow_symlinks=False)
    except FileExistsError:
        if not _is_ours(piece):
            raise Taken(str(piece.destination)) from None
        _part(piece).unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        if not (piece.destination.exists() and _is_ours(piece)):
            _copy(piece, beat)


def _is_ours(piece: Piece) -> bool:
    """True when the destination is the source under a second name, or the copy of it, which has its time."""
    here, there = piece.source.stat(), piece.destination.lstat()
    copied = here.st_size == there.st_size and abs(here.st_mtime_ns - there.st_mtime_ns) <= MTIME_GRAIN_NS
    return os.path.samestat(here, there) or (here.st_dev != there.st_dev and copied)


def _copy(piece: Piece, beat: Callable[[], None]) -> None:
    """Across file systems, or where there are no links: a full, durable copy under another name, then its own name."""
    part = _part(piece)
    with part.open("ab") as file:
        _hold(part, file.fileno())
        file.truncate(0)
        _check_room(part.parent, piece.size)
        try:
            for block in _blocks(piece.source):
                file.write(block)
                beat()
            file.flush()
        except OSError:
            os.ftruncate(file.fileno(), 0)  # what waits for space takes none
            raise
        os.fsync(file.fileno())
        times = piece.source.stat()
        os.utime(part, ns=(times.st_atime_ns, times.st_mtime_ns))
        _name(part, piece.destination)


def _check_room(directory: Path, size: int) -> None:
    """Raise at once what a copy of so many bytes would end with."""
    volume = os.statvfs(directory)
    if volume.f_bavail * volume.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def _name(part: Path, destination: Path) -> None:
    try:
        os.link(part, destination)
    except FileExistsError:
        part.unlink()
        raise Taken(str(destination)) from None
    except OSError:
        if destination.exists():
            raise Taken(str(destination)) from None
        part.replace(destination)
        return
    part.unlink()


def _part(piece: Piece) -> Path:
    name = hashlib.sha256(os.fsencode(piece.destination.name)).hexdigest()[:24]
    return piece.destination.with_name(f".{name}{PART}")


def _hold(part: Path, descriptor: int) -> None:
    """Lock the open file, and make sure that it has no other name: what is written to it reaches nothing that is in place."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    opened = os.fstat(descriptor)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(opened, part.stat()):
            if opened.st_nlink == 1:
                return
            part.unlink()  # a crash left it beside the name it was given
    raise BlockingIOError(errno.EAGAIN, "another process has just copied it", str(part))


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
