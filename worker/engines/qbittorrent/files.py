"""Files as qBittorrent lists them, and leaves them in a work directory.

It leaves padding out and counts from 0, in the order of the torrent; orders have the torrent's own numbers.
A name of more than 240 bytes it shortens, and files whose names then are the same it writes into one, without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.jobs.errors import Failed, Rejected
from worker.jobs.states import Cause
from worker.jobs.torrents import read_torrent
from worker.ports import FoundFile

#: Behind the name of a file that is not complete, when qBittorrent is set so.
INCOMPLETE = ".!qB"
#: Priorities of a file: not fetched, and as any other.
SKIPPED, NORMAL = 0, 1
NAME_BYTES_MAX = 240


def wanted(document: bytes, select: Sequence[int]) -> set[int] | None:
    """qBittorrent's numbers of the selected files; None when the torrent has no file of one of the numbers.

    Raises:
        Rejected: the document is no torrent.
    """
    places = {file.number: place for place, file in enumerate(read_torrent(document).files)}
    return {places[number] for number in select} if places.keys() >= set(select) else None


def reprioritised(files: Iterable[Mapping[str, Any]], wanted: set[int]) -> dict[int, list[int]]:
    """Priority -> qBittorrent's numbers of the files that have to be given it, so that those wanted alone are fetched."""
    changes: dict[int, list[int]] = {}
    for file in files:
        is_wanted = file["index"] in wanted
        if is_wanted != (file["priority"] > SKIPPED):
            changes.setdefault(NORMAL if is_wanted else SKIPPED, []).append(file["index"])
    return changes


def long_names(document: bytes) -> bool:
    """True when a name in the torrent is one that qBittorrent shortens; false, too, when the document is no torrent."""
    try:
        files = read_torrent(document).files
    except Rejected:
        return False
    return any(len(part.encode()) > NAME_BYTES_MAX for file in files for part in file.path)


def double(files: Iterable[Mapping[str, Any]]) -> tuple[str, str] | None:
    """A path that several files have, and another one for the first of them; None when each has its own."""
    first: dict[str, int] = {}
    for file in files:
        if file["name"] in first:
            return file["name"], _numbered(file["name"], first[file["name"]])
        first[file["name"]] = file["index"]
    return None


def _numbered(path: str, number: int) -> str:
    folder, name = os.path.split(path)
    stem, ending = os.path.splitext(name)
    ending = f" {number}{ending}"
    room = NAME_BYTES_MAX - len(ending.encode())
    return os.path.join(folder, stem.encode()[:room].decode(errors="ignore") + ending)


def found_files(directory: str, files: Iterable[Mapping[str, Any]]) -> list[FoundFile]:
    """The selected files of a complete torrent, each looked at on the disk.

    Args:
        directory: where it is saved.
        files: as qBittorrent lists them.

    Raises:
        Failed: INCOMPLETE when the disk says otherwise; SOURCE when several of them are in one.
    """
    real = os.path.realpath(directory)
    found = []
    selected = [file for file in files if file["priority"] > SKIPPED]
    if double(selected):
        raise Failed(Cause.SOURCE, "several files have the same name once it is short enough for a disk: send the .torrent file")
    for file in selected:
        path = os.path.join(directory, file["name"])
        if fault := _incomplete(path, file["size"], real):
            raise Failed(Cause.INCOMPLETE, f"{os.path.basename(path)}: {fault}")
        found.append(FoundFile(path, file["size"]))
    return found


def _incomplete(path: str, length: int, directory: str) -> str | None:
    if os.path.relpath(os.path.realpath(path), directory).split(os.sep)[0] == os.pardir:
        return "lies outside its work directory"
    if not os.path.exists(path) and os.path.exists(path + INCOMPLETE):
        return "still has the ending of a file that is not complete"
    try:
        size = os.stat(path).st_size
    except OSError as error:
        return f"is complete for qBittorrent and cannot be read: {error.strerror}"
    return None if size == length else f"has {size} bytes on the disk instead of {length}"
