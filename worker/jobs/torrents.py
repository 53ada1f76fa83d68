"""`.torrent` files: read strictly and within bounds, whoever made them, before any engine sees them.

Bencode and the first version of the format are BEP 3, the second version and hybrids BEP 52, padding files BEP 47.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.jobs.bencode import NotBencode, decode
from worker.jobs.description import Description
from worker.jobs.errors import Rejected

#: libtorrent's own limit (`max_torrent_file_size`); aria2 has none.
TORRENT_BYTES_MAX = 10_000_000
#: Padding counts.
TORRENT_FILES_MAX = 100_000
#: Of one file and of all together; more is no size but an attack on somebody's arithmetic.
SIZE_MAX = 2**60
PIECE_BYTES_MAX = 2**30
#: The smallest piece of the second version; a piece there is a power of two.
V2_PIECE_BYTES_MIN = 16_384
SHA1_BYTES, SHA256_BYTES = 20, 32
#: What the record of a job keeps of a name.
NAME_CHARACTERS_MAX = 500
#: Characters of a name, and file numbers, that a message repeats.
NAME_SHOWN_MAX = 64
NUMBERS_SHOWN_MAX = 10
#: How programs that knew no attributes named their padding; libtorrent knows it by this name, wherever in the path.
PADDING_NAME = "_____padding_file_"

_OTHER = "send another .torrent file, or the magnet link"


@dataclass(frozen=True, slots=True)
class TorrentFile:
    """A file of a torrent.

    Attributes:
        path: where engines put it below their directory, the torrent's folder first. What is not UTF-8 is replaced; there may be
            control characters in it and names too long for a disk, but no name that leads elsewhere.
        size: bytes.
        number: what `select` calls it, from 1, in the order of the torrent. Padding has a number, too: aria2 counts so.
            qBittorrent does not; the index it shows is the file's place in `Torrent.files`.
    """

    path: tuple[str, ...]
    size: int
    number: int


@dataclass(frozen=True, slots=True)
class Torrent:
    """What a `.torrent` file says.

    Attributes:
        name: of the file, or of the folder of the files.
        files: in the order of the torrent, padding left out.
        v1, v2: infohashes, 40 and 64 hexadecimal digits; a hybrid has both.
        private: peers may come from its trackers only.
    """

    name: str
    files: tuple[TorrentFile, ...]
    v1: str | None
    v2: str | None
    private: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def read_torrent(data: bytes) -> Torrent:
    """The torrent of a `.torrent` file; 100,000 files take about a second.

    Raises:
        Rejected: the field `torrent`, and what is wrong with the file, to go on from its name. No other exception, whatever the bytes.
    """
    if len(data) > TORRENT_BYTES_MAX:
        raise Rejected("torrent", f"is larger than {TORRENT_BYTES_MAX} bytes", fix="use the magnet link")
    try:
        values, entries = decode(data)
    except NotBencode as error:
        raise Rejected("torrent", f"is {error}", fix="send the bytes of a .torrent file") from None
    info = values.get(b"info") if isinstance(values, dict) else None
    if not isinstance(info, dict):
        raise _broken("says nothing of files")
    v1, v2 = b"pieces" in info, info.get(b"meta version") == 2
    if not v1 and not v2:
        raise _broken("has no pieces")
    listed = list(_v1_files(info) if v1 else _v2_files(info))
    _check_pieces(info, sum(size for _, size, _ in listed), v1=v1, v2=v2)
    files = tuple(TorrentFile(path, size, number) for number, (path, size, padding) in enumerate(listed, 1) if not padding)
    if not any(file.size for file in files):
        raise _broken("has no files, or empty ones only")
    return Torrent(
        name=files[0].path[0],
        files=files,
        v1=hashlib.sha1(entries[b"info"], usedforsecurity=False).hexdigest() if v1 else None,
        v2=hashlib.sha256(entries[b"info"]).hexdigest() if v2 else None,
        private=info.get(b"private") == 1,
    )


def describe(data: bytes, select: Sequence[int] = ()) -> Description:
    """What the record of a job keeps of its `.torrent` file.

    Args:
        select: numbers of files that the job asks for; they have to be there.

    Raises:
        Rejected: as `read_torrent` does; or the field `select`, when one is not the number of a file.
    """
    torrent = read_torrent(data)
    numbers = [file.number for file in torrent.files]
    if missing := sorted(set(select) - set(numbers)):
        count = f"the torrent has {len(numbers)} file" + ("s" if len(numbers) > 1 else "")
        known = f"from 1 to {len(numbers)}" if numbers[-1] == len(numbers) else ", ".join(map(str, numbers[:NUMBERS_SHOWN_MAX]))
        raise Rejected("select", f"there is no file {missing[0]}: {count}", fix=f"the numbers are {known}")
    name = torrent.name[:NAME_CHARACTERS_MAX]
    chosen = set(select)
    selected = sum(file.size for file in torrent.files if file.number in chosen) if chosen else None
    return Description(hashlib.sha256(data).hexdigest(), name, torrent.size, len(torrent.files), torrent.v1, torrent.v2, selected)


# ---- files -----------------------------------------------------------------------------------------------------

#: Path, size, and whether it is padding.
_Entry = tuple[tuple[str, ...], int, bool]


def _v1_files(info: Mapping[bytes, Any]) -> Iterator[_Entry]:
    name = _name(info)
    if b"files" not in info:
        yield (name,), _length(info), False
        return
    files = info[b"files"]
    if not isinstance(files, list) or not files:
        raise _broken("has no files")
    if len(files) > TORRENT_FILES_MAX:
        raise _too_many()
    for file in files:
        if not isinstance(file, dict):
            raise _broken("lists a file that is none")
        parts = _path(file)
        yield (name, *parts), _length(file), _is_padding(file, parts)


def _v2_files(info: Mapping[bytes, Any]) -> Iterator[_Entry]:
    name, tree = _name(info), info.get(b"file tree")
    if not isinstance(tree, dict) or not tree:
        raise _broken("has no files")
    single = len(tree) == 1 and _is_file(next(iter(tree.values())))
    for found, (parts, file) in enumerate(_leaves(tree)):
        if found >= TORRENT_FILES_MAX:
            raise _too_many()
        root = file.get(b"pieces root")
        if file.get(b"length") and not (isinstance(root, bytes) and len(root) == SHA256_BYTES):
            raise _broken("has a file without a hash")
        yield (parts if single else (name, *parts)), _length(file), False


def _leaves(tree: Mapping[bytes, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[bytes, Any]]]:
    """Path and file of each leaf, in the order of the tree."""
    left: list[tuple[tuple[str, ...], Iterator[tuple[bytes, Any]]]] = [((), iter(tree.items()))]
    while left:
        above, nodes = left[-1]
        entry = next(nodes, None)
        if entry is None:
            left.pop()
            continue
        key, node = entry
        path = (*above, _part(key))
        if _is_file(node):
            yield path, node[b""]
        elif isinstance(node, dict) and node:
            left.append((path, iter(node.items())))
        else:
            raise _broken("lists a file that is none")


def _is_file(node: Any) -> bool:
    return isinstance(node, dict) and len(node) == 1 and isinstance(node.get(b""), dict)


def _is_padding(file: Mapping[bytes, Any], parts: tuple[str, ...]) -> bool:
    """Files that only fill up a piece, as libtorrent tells them; a folder `.pad` is only their custom."""
    attributes = file.get(b"attr")
    return (isinstance(attributes, bytes) and b"p" in attributes) or any(PADDING_NAME in part for part in parts)


def _length(file: Mapping[bytes, Any]) -> int:
    size = file.get(b"length")
    if not isinstance(size, int) or not 0 <= size <= SIZE_MAX:
        raise _broken("has a file whose size is missing, negative or absurd")
    return size


def _name(info: Mapping[bytes, Any]) -> str:
    name = _part(info.get(b"name"))
    return _part(info[b"name.utf-8"]) if b"name.utf-8" in info else name


def _path(file: Mapping[bytes, Any]) -> tuple[str, ...]:
    """Some programs wrote paths twice, the second time in UTF-8, and engines differ in which they take: both have to be right."""
    found: tuple[str, ...] = ()
    for key in (b"path", b"path.utf-8"):
        parts = file.get(key, found)
        if not isinstance(parts, list | tuple) or not parts:
            raise _broken("has a file without a path")
        if key in file:
            found = tuple(map(_part, parts))
    return found


def _part(part: Any) -> str:
    """One name of a path."""
    if not isinstance(part, bytes):
        raise _broken("has a file without a name")
    if part in (b"", b".", b"..") or b"/" in part or b"\0" in part:
        raise _broken(f"has a file with the name {part.decode(errors='replace')[:NAME_SHOWN_MAX]!r}, which no file can have")
    return part.decode(errors="replace")


def _check_pieces(info: Mapping[bytes, Any], size: int, *, v1: bool, v2: bool) -> None:
    length, pieces = info.get(b"piece length"), info.get(b"pieces")
    if not isinstance(length, int) or not 0 < length <= PIECE_BYTES_MAX or size > SIZE_MAX:
        raise _broken("has a size that is missing, negative or absurd")
    if v2 and (length < V2_PIECE_BYTES_MIN or length & (length - 1)):
        raise _broken("has pieces of a size that its version does not know")
    if v1 and (not isinstance(pieces, bytes) or len(pieces) != -(-size // length) * SHA1_BYTES):
        raise _broken("has pieces that do not fit its files")


def _broken(what: str) -> Rejected:
    return Rejected("torrent", what, fix=_OTHER)


def _too_many() -> Rejected:
    return Rejected("torrent", f"has more than {TORRENT_FILES_MAX} files", fix=_OTHER)
