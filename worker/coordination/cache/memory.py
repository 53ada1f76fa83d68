"""`Shared` in memory, as processes share a Redis: for tests."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import inf

from worker.coordination.cache.layered import LayeredCache
from worker.coordination.cache.popular import KEPT_MAX, Told
from worker.coordination.cache.redis import ENTRY_BYTES
from worker.coordination.cache.shared import Answer, CacheBounds
from worker.coordination.cache.values import NEGATIVE
from worker.jobs.errors import Transient


@dataclass(frozen=True, slots=True)
class _Kept:
    tokens: tuple[str, ...]
    value: bytes
    ends: float
    size: int


@dataclass(slots=True)
class CacheServer:
    """What the fakes of one test share. While it is `down` every call fails and no subscription lives."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    entries: dict[str, _Kept] = field(default_factory=dict)
    locks: dict[str, tuple[object, float]] = field(default_factory=dict)
    members: list[MemoryShared] = field(default_factory=list)
    asked: dict[int, dict[str, int]] = field(default_factory=dict)
    minutes: dict[int, tuple[int, int]] = field(default_factory=dict)
    down: bool = False

    def stop(self) -> None:
        """Be away: for every member its subscription has ended."""
        self.down = True

    def start(self) -> None:
        """Be there again, without what it had; everybody subscribes anew."""
        with self.lock:
            self.tokens.clear()
            self.entries.clear()
            self.locks.clear()
            self.asked.clear()
            self.minutes.clear()
        for member in list(self.members):
            member.subscribe()
        self.down = False


def fake_cache(server: CacheServer, *, bytes_max: int, shared_bytes_max: int, bounds: CacheBounds | None = None) -> LayeredCache:
    """A cache of one more process; see `redis.redis_cache`."""
    return LayeredCache(MemoryShared(server, shared_bytes_max, bounds or CacheBounds()), bytes_max=bytes_max, bounds=bounds)


class MemoryShared:
    """Implements `Shared`."""

    def __init__(self, server: CacheServer, bytes_max: int, bounds: CacheBounds) -> None:
        self._server, self._bytes_max, self._bounds = server, bytes_max, bounds
        self._dropped: Callable[[Collection[str]], None] | None = None
        self._gap: Callable[[], None] | None = None

    @property
    def heard_at(self) -> float:
        """See `Shared`. Messages come at once."""
        return time.monotonic() if self in self._server.members and not self._server.down else -inf

    def listen(self, dropped: Callable[[Collection[str]], None], gap: Callable[[], None]) -> None:
        """See `Shared`."""
        self._dropped, self._gap = dropped, gap
        self._server.members.append(self)
        gap()

    def subscribe(self) -> None:
        """As after a subscription that was lost."""
        if self._gap:
            self._gap()

    def read(self, name: str, marks: Sequence[str], tail_s: float, *, alone: bool) -> Answer:
        """See `Shared`."""
        with self._up() as server:
            now = time.monotonic()
            held = [self._token(mark, now) for mark in marks]
            kept, value, left_s = server.entries.get(name), None, 0.0
            if kept is not None and kept.ends > now and list(kept.tokens) == held:
                value, left_s = kept.value, kept.ends - now
                if left_s > (0.0 if value == NEGATIVE else tail_s):
                    return Answer(value, left_s, ())
            holder, until = server.locks.get(name, (None, 0.0))
            if not alone:
                if holder is not None and until > now:
                    return Answer(value, left_s, ())
                server.locks[name] = (self, now + self._bounds.lock_s)
            tokens = tuple(token or secrets.token_hex(6) for token in held)
            self._renew(marks, tokens, now + self._bounds.fill_s)
            return Answer(value, left_s, tokens)

    def keep(self, name: str, marks: Sequence[str], tokens: Sequence[str], value: bytes, life_s: float) -> bool:
        """See `Shared`."""
        with self._up() as server:
            now = time.monotonic()
            self._unlock(name)
            if [self._token(mark, now) for mark in marks] != list(tokens):
                return False
            server.entries = {other: kept for other, kept in server.entries.items() if kept.ends > now and other != name}
            size = len(value) + len(" ".join(tokens)) + 1 + 3 * len(name) + ENTRY_BYTES
            if self._bytes_max:
                for other in sorted(server.entries, key=lambda name: server.entries[name].ends):
                    if size + sum(each.size for each in server.entries.values()) <= self._bytes_max:
                        break
                    del server.entries[other]
            server.entries[name] = _Kept(tuple(tokens), value, now + life_s, size)
            self._renew(marks, tokens, now + life_s + self._bounds.fill_s)
            return True

    def give_up(self, name: str) -> None:
        """See `Shared`."""
        with self._up():
            self._unlock(name)

    def invalidate(self, marks: Sequence[str]) -> None:
        """See `Shared`."""
        with self._up() as server:
            for mark in marks:
                server.tokens.pop(mark, None)
            others = [member for member in server.members if member is not self]
        for member in others:
            if member._dropped:
                member._dropped(marks)

    def tell_asked(self, day: int, minute: int, told: Told) -> None:
        """See `Shared`."""
        with self._up() as server:
            counts = server.asked.setdefault(day, {})
            for text, count in told.counts.items():
                full = text not in counts and len(counts) >= KEPT_MAX
                least = counts.pop(min(counts, key=lambda name: counts[name])) if full else 0
                counts[text] = counts.get(text, 0) + least + count
            reads, found = server.minutes.get(minute, (0, 0))
            server.minutes[minute] = (reads + told.reads, found + told.found)

    def asked(self, day: int, limit: int) -> list[tuple[str, float]]:
        """See `Shared`."""
        with self._up() as server:
            counts = server.asked.get(day, {})
            return [(text, float(counts[text])) for text in sorted(counts, key=lambda name: -counts[name])[:limit]]

    def rates(self, minutes: range) -> tuple[int, int]:
        """See `Shared`."""
        with self._up() as server:
            rows = [server.minutes.get(minute, (0, 0)) for minute in minutes]
            return sum(reads for reads, _ in rows), sum(found for _, found in rows)

    def usage(self) -> tuple[int, int | None, int | None]:
        """See `Shared`."""
        with self._up() as server:
            if not self._bytes_max:
                return 0, None, None
            return len(server.entries), sum(kept.size for kept in server.entries.values()), self._bytes_max

    def close(self) -> None:
        """See `Shared`."""
        if self in self._server.members:
            self._server.members.remove(self)

    def _up(self) -> _Held:
        return _Held(self._server)

    def _token(self, mark: str, now: float) -> str | None:
        token, until = self._server.tokens.get(mark, ("", 0.0))
        return token if until > now else None

    def _renew(self, marks: Sequence[str], tokens: Sequence[str], until: float) -> None:
        for mark, token in zip(marks, tokens, strict=True):
            _, before = self._server.tokens.get(mark, ("", 0.0))
            self._server.tokens[mark] = (token, max(until, before))

    def _unlock(self, name: str) -> None:
        if self._server.locks.get(name, (None, 0.0))[0] is self:
            del self._server.locks[name]


class _Held:
    """The server's lock, or Transient while it is down."""

    def __init__(self, server: CacheServer) -> None:
        self._server = server

    def __enter__(self) -> CacheServer:
        if self._server.down:
            raise Transient("redis", "is down")
        self._server.lock.acquire()
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.lock.release()
