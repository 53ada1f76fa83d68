"""Marks: what an entry can be invalidated by. An entry has one for itself, one a tag, and one for each prefix of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker.ports.cache import TAG_COLONS_MAX, Kind

#: Before a mark of one tag, and before one of all tags that begin so: a tag may itself end with a colon.
EXACT, PREFIX = "=", "^"
#: Of every entry.
EVERYTHING = PREFIX
#: Of no entry: a call to every process to load what is hot.
WARM = "!warm"
#: An entry has no more; tags beyond are refused.
TAGS_MAX = 8


def entry_id(kind: Kind, key: str) -> str:
    """The name of an entry, which is a tag of its own."""
    return f"{kind.name}:{key}"


def marks_of(entry: str, tags: Sequence[str]) -> tuple[str, ...]:
    """All marks of an entry, its own first, the rest in order, each once."""
    if len(tags) > TAGS_MAX:
        raise ValueError(f"{len(tags)} tags are too many; give at most {TAGS_MAX}")
    exact = [EXACT + tag for tag in (entry, *tags)]
    prefixes = [PREFIX + prefix for tag in (entry, *tags) for prefix in prefixes_of(tag)]
    return tuple(dict.fromkeys([*exact, EVERYTHING, *prefixes]))


def prefixes_of(tag: str) -> list[str]:
    """`a:`, `a:b:` and `a:b:c:` of `a:b:c:d:e`."""
    parts = tag.split(":", TAG_COLONS_MAX)[:-1]
    return [":".join(parts[:count]) + ":" for count in range(1, len(parts) + 1)]


def marks_to_drop(keys: Iterable[tuple[Kind, str]], tags: Iterable[str], prefixes: Iterable[str]) -> list[str]:
    """The marks that an invalidation names. Raises ValueError for a prefix that no entry has a mark for."""
    marks = [EXACT + entry_id(kind, key) for kind, key in keys]
    marks += [EXACT + tag for tag in tags]
    for prefix in prefixes:
        if not prefix.endswith(":") or prefix.count(":") > TAG_COLONS_MAX:
            raise ValueError(f"{prefix!r} is no prefix of tags: it ends with one of their first {TAG_COLONS_MAX} colons")
        marks.append(PREFIX + prefix)
    return marks
