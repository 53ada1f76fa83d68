"""What qBittorrent's refusals and the lines of its log mean for a job.

A row in the state `error` does not say why; the log does, in the words of the system. They hold paths, so ours are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.engines.volume import NO_SPACE
from worker.jobs.states import Cause, Reason
from worker.limits import FREE_BYTES_MIN
from worker.ports import Fault

FULL = NO_SPACE
UNKNOWN = Fault(Cause.DISK, False, "qBittorrent stopped with an error of the disk", elsewhere=True)
MISSING = Fault(Cause.INCOMPLETE, True, "files that were downloaded are no longer on the disk")

NO_DOCUMENT = Fault(Cause.UNSUPPORTED, False, "qBittorrent is not given this kind of source", elsewhere=True)
NOT_READ = Fault(Cause.SOURCE, False, "qBittorrent cannot read this torrent or magnet link")
NO_SUCH_FILE = Fault(Cause.SOURCE, False, "the torrent has no file with one of the selected numbers")
NOT_SHOWN = Fault(Cause.ENGINE, True, "qBittorrent took the torrent and does not show it", elsewhere=True)
NOT_STOPPED = Fault(Cause.ENGINE, True, "an earlier attempt is still being removed")
BY_HAND = Fault(
    Cause.ENGINE, False, "this torrent was added to qBittorrent by hand: remove it there, or use another engine", elsewhere=True
)
DUPLICATE = Fault(Cause.ENGINE, True, "the engine has this torrent for another job", wait=Reason.DUPLICATE)

#: The first that occurs in the line counts; the words are those of the C library.
BY_TEXT: tuple[tuple[str, Fault], ...] = (
    ("No space left", FULL),
    ("Disk quota exceeded", FULL),
    ("File too large", Fault(Cause.DISK, False, "a file is larger than the disk allows", elsewhere=True)),
    ("File name too long", Fault(Cause.DISK, False, "a name in the torrent is too long for the disk", elsewhere=True)),
    ("Read-only file system", Fault(Cause.DISK, False, "the disk is read-only", elsewhere=True)),
    ("Permission denied", Fault(Cause.DISK, False, "qBittorrent may not write to its work directory", elsewhere=True)),
    ("Not a directory", Fault(Cause.DISK, False, "a file is in the way of a directory", elsewhere=True)),
    ("Is a directory", Fault(Cause.DISK, False, "a directory is in the way of a file", elsewhere=True)),
    ("Input/output error", Fault(Cause.DISK, False, "the disk reported an error", elsewhere=True)),
)


def reason(directory: str, log: Iterable[Mapping[str, Any]], free_bytes: int | None) -> Fault:
    """Why a torrent is in the state `error`.

    Args:
        directory: its work directory; a line about it holds this path.
        log: the lines of `/log/main`, oldest first.
        free_bytes: on its volume, for when the log says nothing.
    """
    lines = [line["message"] for line in log if f"{directory}/" in line["message"]]
    if lines:
        return next((fault for words, fault in BY_TEXT if words in lines[-1]), UNKNOWN)
    return FULL if free_bytes is not None and free_bytes < FREE_BYTES_MIN else UNKNOWN
