"""Entries in this process: what was used longest ago goes when all together take more bytes than they may."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Collection, Sequence

from worker.coordination.cache.marks import EVERYTHING, EXACT, PREFIX

#: A value that takes more than this part of all is not kept.
LARGEST_PART = 8
#: What an entry takes beside its key and value: the object, three floats, its place in the order. Measured with CPython 3.11-3.13
#: on 64 bits by the growth of a process, see `tests/unit/test_cache_local.py`.
ENTRY_BYTES = 340
#: The same of one of its tags: the text, its set and its place there.
TAG_BYTES = 420


class Entry:
    """A value as JSON, with its times on this process's clock.

    Attributes:
        fresh_until, until: when its time is over, and when it is of no use any more.
        seen_at: when it was right at the latest: the beginning of its load, or of the look into Redis.
        tags: those beside its own name.
    """

    __slots__ = ("fresh_until", "seen_at", "size", "tags", "until", "value")

    def __init__(self, value: bytes, seen_at: float, fresh_until: float, until: float, tags: tuple[str, ...]) -> None:
        self.value, self.tags = value, tags
        self.seen_at, self.fresh_until, self.until = seen_at, fresh_until, until
        self.size = 0


class Local:
    """Entries by their names. Not safe for several threads at once; its owner locks.

    Args:
        bytes_max: what all entries may take; 0 keeps none.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._tagged: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Entry | None:
        """The entry, which is then the last one to go."""
        entry = self._entries.get(name)
        if entry is not None:
            self._entries.move_to_end(name)
        return entry

    def put(self, name: str, entry: Entry) -> None:
        """Keep it, in the place of the one before, and let go of what has not been used for longest."""
        self._remove(name)
        entry.size = sys.getsizeof(entry.value) + sys.getsizeof(name) + ENTRY_BYTES
        entry.size += sum(sys.getsizeof(tag) + TAG_BYTES for tag in entry.tags)
        if entry.size > self.bytes_max // LARGEST_PART:
            return
        self._entries[name] = entry
        self.bytes += entry.size
        for tag in entry.tags:
            self._tagged.setdefault(tag, set()).add(name)
        while self.bytes > self.bytes_max:
            self._remove(next(iter(self._entries)))

    def drop(self, marks: Collection[str]) -> None:
        """Remove all that has one of the marks; prefixes cost a look at every entry."""
        if EVERYTHING in marks:
            self.clear()
            return
        for mark in marks:
            if mark.startswith(EXACT):
                tag = mark[len(EXACT) :]
                self._remove(tag)
                for name in tuple(self._tagged.get(tag, ())):
                    self._remove(name)
        if prefixes := tuple(mark[len(PREFIX) :] for mark in marks if mark.startswith(PREFIX)):
            for name in [name for name, entry in self._entries.items() if _begins(name, entry.tags, prefixes)]:
                self._remove(name)

    def clear(self) -> None:
        """Remove everything."""
        self._entries.clear()
        self._tagged.clear()
        self.bytes = 0

    def _remove(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        self.bytes -= entry.size
        for tag in entry.tags:
            names = self._tagged[tag]
            names.discard(name)
            if not names:
                del self._tagged[tag]


def _begins(name: str, tags: Sequence[str], prefixes: tuple[str, ...]) -> bool:
    return name.startswith(prefixes) or any(tag.startswith(prefixes) for tag in tags)
