"""File names from outside made safe: no path, no control characters, short enough for the file system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath, PurePosixPath

from worker.jobs.requests import CONTROL_CHARACTERS

NAME_BYTES_MAX = 255
_UNSAFE = re.compile(rf"[{CONTROL_CHARACTERS}/\\]")


def safe_name(name: str, bytes_max: int = NAME_BYTES_MAX) -> str:
    """A name for one entry of a directory, as close to `name` as is safe; never empty, never `.` or `..`.

    The suffix is kept when the name has to be shortened; a character is never cut in half.
    """
    clean = _UNSAFE.sub("_", name).strip()
    if clean.strip(".") == "":
        clean = "download" if not clean else clean.replace(".", "_")
    if len(clean.encode()) <= bytes_max:
        return clean
    suffix = PurePosixPath(clean).suffix
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    stem = clean[: len(clean) - len(suffix)] if suffix else clean
    return _cut(stem, bytes_max - len(suffix.encode())) + suffix


def safe_paths(paths: Sequence[PurePath]) -> list[PurePosixPath]:
    """Relative paths with each part made safe, in the same order; entries of one directory that become the same get numbers.

    The same paths give the same answer, so that what a crash interrupted goes on where it began.
    """
    safe: dict[PurePath, PurePosixPath] = {PurePath(): PurePosixPath()}
    taken: set[PurePosixPath] = set()
    for path in paths:
        for place in [*reversed(path.parents), path]:
            if place not in safe:
                safe[place] = _untaken(safe[place.parent], safe_name(place.name), taken)
                taken.add(safe[place])
    return [safe[path] for path in paths]


def _untaken(parent: PurePosixPath, name: str, taken: set[PurePosixPath]) -> PurePosixPath:
    number = 0
    while (chosen := parent / numbered(name, number)) in taken:
        number += 1
    return chosen


def numbered(name: str, number: int) -> str:
    """`name (number).suffix`, within the length of a name; the name itself for number 0."""
    if number == 0:
        return name
    path = PurePosixPath(name)
    mark = f" ({number})"
    return safe_name(path.stem, NAME_BYTES_MAX - len(mark.encode()) - len(path.suffix.encode())) + mark + path.suffix


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")
