"""File names from outside made safe: no path, no control characters, short enough for the file system."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

NAME_BYTES_MAX = 255
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


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


def numbered(name: str, number: int) -> str:
    """`name (number).suffix`, within the length of a name; the name itself for number 0."""
    if number == 0:
        return name
    path = PurePosixPath(name)
    mark = f" ({number})"
    return safe_name(path.stem, NAME_BYTES_MAX - len(mark.encode()) - len(path.suffix.encode())) + mark + path.suffix


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")
