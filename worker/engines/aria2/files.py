"""Files as aria2 leaves them in a work directory: control files, files with holes, names that do not fit.

aria2 keeps what it has of `name` in `name.aria2`. Without that file it trusts the length of `name`, and a file that is fetched in
several parts, or that an older version allocated, is longer than what is in it: then nothing but the holes in it tells that.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.jobs.directories import has_hole
from worker.jobs.errors import Failed, Rejected
from worker.jobs.states import Cause
from worker.jobs.torrents import TorrentFile, read_torrent
from worker.ports import FoundFile

CONTROL = ".aria2"
NAME_BYTES_MAX = 255
#: Longer endings are no file types, and are shortened with the rest.
ENDING_BYTES_MAX = 20
DOCUMENTS = (".torrent", ".metalink", ".meta4")
#: What stands for bytes of a name that are no UTF-8.
UNREADABLE = "\ufffd"
_UNFIT = re.compile(r"[\x00-\x1f\x7f/\\]")


def name_max(directory: str) -> int:
    """Bytes a name may have so that its control file can be written beside it."""
    try:
        limit = os.pathconf(directory, "PC_NAME_MAX")
    except (OSError, ValueError):
        limit = NAME_BYTES_MAX
    return limit - len(CONTROL)


def short_name(name: str, bytes_max: int) -> str:
    """The name itself if it can be a file's, else one that can, with the same ending."""
    name = _UNFIT.sub("_", name)
    if name in ("", ".", ".."):
        return "download"
    if len(name.encode()) <= bytes_max:
        return name
    stem, ending = _parted(name)
    return stem.encode()[: bytes_max - len(ending.encode())].decode(errors="ignore") + ending


def _parted(name: str) -> tuple[str, str]:
    """The name without its ending, and the ending with its dot."""
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if stem and len(ending.encode()) <= ENDING_BYTES_MAX else (name, "")


def fitting_names(files: Sequence[TorrentFile], directory: str) -> list[str]:
    """Names for the files of a torrent that cannot lie on the disk as they are called, as `index-out` takes them: `number=path`.

    Two files never get one name. aria2 itself writes characters that do not fit in three (`%01`), so they count here, too.
    """
    bytes_max = name_max(directory)
    taken = {file.path for file in files}
    tried: Counter[tuple[str, ...]] = Counter()
    names = []
    for file in files:
        fits = tuple(short_name(part.replace(UNREADABLE, "_"), bytes_max) for part in file.path)
        if fits == file.path:
            continue
        path = fits
        while path in taken:
            tried[fits] += 1
            path = (*fits[:-1], _numbered(fits[-1], tried[fits], bytes_max))
        taken.add(path)
        names.append(f"{file.number}={'/'.join(path)}")
    return names


def _numbered(name: str, number: int, bytes_max: int) -> str:
    stem, ending = _parted(name)
    return short_name(stem, bytes_max - len(f" ({number}){ending}".encode())) + f" ({number}){ending}"


def saved_names(directory: str) -> list[str]:
    """`fitting_names` for the torrent of a magnet link, which aria2 saves in the directory once it has come."""
    for path in sorted(Path(directory).glob("*.torrent")):
        with contextlib.suppress(OSError, Rejected):
            return fitting_names(read_torrent(path.read_bytes()).files, directory)
    return []


def unaccounted(directory: str) -> bool:
    """True when files lie there and no control file says what they hold: pieces are then to be checked, not refused."""
    try:
        names = [entry.name for entry in os.scandir(directory)]
    except OSError:
        return False
    return any(not name.endswith(DOCUMENTS) for name in names) and not any(name.endswith(CONTROL) for name in names)


def damaged(directory: str, *, has_pieces: bool = False) -> list[str]:
    """Paths to delete before aria2 may look at the directory; only while it does not have it in work.

    Args:
        has_pieces: of a torrent the files stay, for they can be checked; only its control files may be damaged.

    An empty control file (the disk was full) fails every download with "Download aborted."; without it the file beside it
    tells nothing. A file with holes and without control file would be taken for complete.
    """
    try:
        sizes = {entry.path: entry.stat().st_size for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False)}
    except OSError:
        return []
    bad = []
    for path, size in sizes.items():
        if path.endswith(CONTROL) and size == 0:
            bad.append(path)
            bad += [file for file in (path.removesuffix(CONTROL),) if file in sizes and not has_pieces]
        elif has_pieces:
            continue
        elif not path.endswith(CONTROL) and path + CONTROL not in sizes and has_hole(path):
            bad.append(path)
    return bad


def heal(directory: str, *, has_pieces: bool) -> None:
    """Delete what is `damaged`."""
    for path in damaged(directory, has_pieces=has_pieces):
        os.unlink(path)


def found_files(row: Mapping[str, Any], *, seeding: bool = False) -> list[FoundFile]:
    """The selected files of a complete row of aria2 (with its `files` and `dir`), each looked at on the disk.

    Raises:
        Failed: INCOMPLETE when the disk says otherwise, SOURCE when it is a description that describes nothing.
    """
    directory = os.path.realpath(row["dir"])
    files = [file for file in row["files"] if file["selected"] == "true" and not _is_padding(file["path"], int(file["length"]))]
    if "bittorrent" not in row and len(files) == 1 and (files[0]["path"].startswith("[") or files[0]["path"].lower().endswith(DOCUMENTS)):
        raise Failed(Cause.SOURCE, "the link leads to no valid torrent or metalink")
    # With files left out the control file stays, for the torrent itself is not complete.
    control_may_stay = seeding or len(files) < len(row["files"])
    for file in files:
        fault = _incomplete(file["path"], int(file["length"]), directory, control_may_stay)
        if fault:
            raise Failed(Cause.INCOMPLETE, f"{os.path.basename(file['path'])}: {fault}")
    return [FoundFile(file["path"], int(file["length"])) for file in files]


def _is_padding(path: str, length: int) -> bool:
    """aria2 takes the padding of hybrid torrents for files, and fetches it; this is how it is called (BEP 47)."""
    folder, name = os.path.split(path)
    return os.path.basename(folder) == ".pad" and name == str(length)


def _incomplete(path: str, length: int, directory: str, control_may_stay: bool) -> str | None:
    inside = os.path.relpath(os.path.realpath(path), directory)
    if inside.split(os.sep)[0] == os.pardir:
        return "lies outside its work directory"
    try:
        size = os.stat(path).st_size
    except OSError as error:
        return f"is complete for aria2 and cannot be read: {error.strerror}"
    if size != length:
        return f"has {size} bytes on the disk instead of {length}"
    # A torrent's control file stands beside its top directory.
    beside = {path + CONTROL, os.path.join(directory, inside.split(os.sep)[0]) + CONTROL}
    if not control_may_stay and any(os.path.exists(control) for control in beside):
        return "still has a control file"
    # Its control file could not be written, so after a pause or a restart aria2 takes it for complete.
    if len(os.fsencode(os.path.basename(path))) > name_max(directory) and has_hole(path):
        return "has parts that were never written"
    return None
