"""Where a transfer's bytes lie until they are in place: `<volume>/.haul/<transfer>/<engine>`."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from worker.jobs.model import Job, SourceKind, Transfer
from worker.jobs.states import Cause, State

WORK = ".haul"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Kinds whose work directory holds the one file and nothing else, unless the link led to a torrent or metalink.
ONE_FILE = frozenset({SourceKind.HTTP, SourceKind.FTP})
#: Of `st_blocks`, whatever the file system's own are.
BLOCK_BYTES = 512
#: A work directory with more entries is measured in part.
ENTRIES_MAX = 20_000


def work_directory(volume: str, transfer: str, engine: str) -> str:
    """The directory a transfer has on one engine, alone."""
    return os.path.join(volume, WORK, transfer, engine)


def volume_of(work: str) -> str:
    """The volume that a work directory lies on; the inverse of `work_directory`."""
    return str(Path(work).parents[2])


def delete_work_directory(directory: str) -> None:
    """Remove it, and the transfer's own when no other engine has one there; idempotent. What may not be removed stays."""
    try:
        shutil.rmtree(directory, ignore_errors=True)
    except RecursionError:
        flatten(directory)
    with contextlib.suppress(OSError):
        Path(directory).parent.rmdir()


def flatten(directory: str | Path) -> None:
    """Remove, as far as that may be done, a directory with a longer chain of directories in it than Python can follow.

    Strangers may have one made. Each is moved to the top before it is looked into, so none is deeper than two; links are not followed.
    """
    with contextlib.suppress(OSError):
        top = os.open(directory, _DIRECTORY)
        try:
            left, number = _emptied(top), 0
            while left:
                name = left.pop()
                with contextlib.suppress(OSError):
                    inner = os.open(name, _DIRECTORY, dir_fd=top)
                    try:
                        for deeper in _emptied(inner):
                            number += 1
                            with contextlib.suppress(OSError):
                                os.rename(deeper, f".deep-{number}", src_dir_fd=inner, dst_dir_fd=top)
                                left.append(f".deep-{number}")
                    finally:
                        os.close(inner)
                    os.rmdir(name, dir_fd=top)
        finally:
            os.close(top)
        os.rmdir(directory)


def _emptied(directory: int) -> list[str]:
    """The directories in a directory, whose other entries are removed."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, deeper in found:
        if not deeper:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
    return [name for name, deeper in found if deeper]


def delete_work(transfer: Transfer, volumes: Mapping[str, str]) -> None:
    """Remove what every engine keeps of a transfer, for it may have been tried on several; idempotent.

    Args:
        volumes: of the engines, by their names.
    """
    for directory in {transfer.directory, *(work_directory(volume, transfer.id, engine) for engine, volume in volumes.items())}:
        delete_work_directory(directory)


def is_spent(job: Job) -> bool:
    """True when nothing goes on from what engines fetched for it: it is in place, given up, refused, or not what was asked for."""
    of_no_use = job.cause in (Cause.CHECKSUM, Cause.REFUSED)
    return job.state is State.CANCELLED or of_no_use or (job.state is State.DONE and not job.seeding)


def allocated_bytes(directory: str, entries_max: int = ENTRIES_MAX) -> tuple[int, int]:
    """What the files below a directory take on the disk, and how many entries were looked at; 0 and 0 when there is none.

    Files that are being written or removed meanwhile may be missed, as are those beyond `entries_max`: it is never too much.
    """
    total = looked = 0
    left = [directory]
    while left and looked < entries_max:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                looked += 1
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                if looked >= entries_max:
                    break
    return total, looked


def standing(path: str | Path) -> Path:
    """The path itself, or the nearest directory above it that exists."""
    there = Path(path)
    while not there.exists() and there != there.parent:
        there = there.parent
    return there


def has_hole(path: str) -> bool:
    """True when parts of the file were allocated and never written; file systems that cannot tell say no."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return size > 0 and os.lseek(file.fileno(), 0, os.SEEK_HOLE) < size
        except OSError:
            return False
