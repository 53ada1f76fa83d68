"""What a metalink says: the addresses it names, and the sizes of its files; of version 3 and 4 (RFC 5854), pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from worker.jobs.errors import Rejected

METALINK_BYTES_MAX = 1_000_000
#: Digits of a size that some disk may have; aria2 dies of 2^63 - 1, with all its downloads.
SIZE_DIGITS_MAX = 18
#: An element, and the field of a request that is refused for it.
SIZE = "size"

_MIRRORS, _FILE = frozenset({"url", "metaurl"}), "file"


@dataclass(slots=True)
class Metalink:
    """One document.

    Attributes:
        mirrors: every address it names, as it is written.
        sizes: bytes of its files, in their order; None of those that tell none.
    """

    mirrors: list[str] = field(default_factory=list)
    sizes: list[int | None] = field(default_factory=list)

    def total(self, select: Collection[int] = ()) -> int | None:
        """Bytes of the files with these numbers, from 1, or of all; None when some of them tell none, or are not there."""
        if not self.sizes or any(not 0 < number <= len(self.sizes) for number in select):
            return None
        chosen = [self.sizes[number - 1] for number in select] if select else self.sizes
        known = [size for size in chosen if size is not None]
        return sum(known) if len(known) == len(chosen) else None


def read_metalink(document: bytes) -> Metalink:
    """What the document says. A file that names several sizes counts with the largest.

    Raises:
        Rejected: it cannot be read, it declares entities, which programs expand differently, or a size that no disk has.
    """
    found = Metalink()
    inside: list[str] | None = None

    def begin(name: str, _attributes: Any) -> None:
        nonlocal inside
        if _plain(name) == _FILE:
            found.sizes.append(None)
        inside = [] if _plain(name) in _MIRRORS or _plain(name) == SIZE else None

    def end(name: str) -> None:
        nonlocal inside
        if inside is not None and _plain(name) == SIZE:
            size = _bytes("".join(inside).strip())
            if found.sizes and size is not None:
                found.sizes[-1] = max(size, found.sizes[-1] or 0)
        elif inside is not None:
            found.mirrors.append("".join(inside).strip())
        inside = None

    def text(data: str) -> None:
        if inside is not None:
            inside.append(data)

    def entity(*_: Any) -> None:
        raise Rejected("uri", "the metalink declares entities", fix="use one without a DTD")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, text
    parser.StartDoctypeDeclHandler = entity
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise Rejected("uri", "the metalink is no XML", fix="check the link") from None
    return found


def _bytes(text: str) -> int | None:
    """A size as it is written; None for what is none. Raises Rejected for one that no disk has."""
    if len(text.lstrip("0")) > SIZE_DIGITS_MAX:
        raise Rejected(SIZE, "the metalink announces a size that no disk has", fix="check the link")
    return int(text) if text.isascii() and text.isdigit() else None


def _plain(name: str) -> str:
    """The name of an element without its namespace."""
    return name.rpartition(":")[2]
