"""Reads that repeat, kept close: what a cache promises, and one that keeps nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

#: Prefixes of a tag are cut at its first so many colons; see `Cache.invalidate`.
TAG_COLONS_MAX = 3
#: See `Cache.get`.
Again: TypeAlias = "tuple[Any, ...] | None"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of reads, and how old what is read may be; seconds.

    Attributes:
        name: of the metrics and of the keys; no colon in it. There are few of them and they are written in code.
        ttl_s: what is older is loaded again. Up to a fifth less is taken off by chance, so that not all of it ends at once.
        stale_s: for so long afterwards it is still given, while one caller loads it anew.
        error_s: for so long afterwards it is given when the loader raises Transient.
        negative_s: how long `None` is kept, the answer for what does not exist; 0 keeps none.
        shared: other processes may have it from Redis.
    """

    name: str
    ttl_s: float
    stale_s: float = 0.0
    error_s: float = 0.0
    negative_s: float = 0.0
    shared: bool = True

    def tail_s(self, *, negative: bool = False) -> float:
        """How long it is kept when its time is over; a negative answer is not."""
        return 0.0 if negative else max(self.stale_s, self.error_s)


@dataclass(frozen=True, slots=True)
class KindStats:
    """What one process did with one kind.

    Attributes:
        local, shared: found in this process, found in Redis.
        misses: neither; stale: given although its time was over; negative: of all that was found, how often `None`.
        fills: loads that ended well; lost: of these, how many were not kept, because the value was invalidated meanwhile.
        waits: callers that waited for another's load, in this process or another.
    """

    local: int = 0
    shared: int = 0
    misses: int = 0
    stale: int = 0
    negative: int = 0
    fills: int = 0
    lost: int = 0
    waits: int = 0


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What is in a cache; bytes are all that an entry takes, not its value alone.

    Attributes:
        live: invalidations of other processes come in; without them nothing in this process is given that is older than a second.
        shared_entries, shared_bytes: None when Redis does not answer; bytes are None too when it has no index of ours.
    """

    entries: int = 0
    bytes: int = 0
    bytes_max: int = 0
    live: bool = False
    shared_entries: int | None = None
    shared_bytes: int | None = None
    shared_bytes_max: int | None = None
    kinds: dict[str, KindStats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hot:
    """A read that many ask for.

    Attributes:
        kind: its kind's name; again: what it is asked again by, JSON values (`Cache.get`).
        count: about how often it was asked lately, by all processes, in some measure.
    """

    kind: str
    again: tuple[Any, ...]
    count: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Reads of all processes that can be asked again, in some minutes, and how many of them were found in a cache."""

    reads: int = 0
    found: int = 0

    @property
    def rate(self) -> float | None:
        """The hit rate; None without a read."""
        return self.found / self.reads if self.reads else None


class Cache(Protocol):
    """Get or fill. It saves work and is never the record: all of it may vanish at any time, and no error of its own comes out.

    Values are what JSON knows and are given as JSON gives them back, each caller its own; others are loaded each time.

    How old a value can be, at most: `ttl_s` of its kind (with `stale_s` and `error_s` where they are set), whatever dies.
    Usually: no read that begins after `invalidate` returned is older in the same process; in the others it is so within 100 ms,
    and within `TRUST_S` when messages are held up and the server of the cache is well.
    """

    def get(self, kind: Kind, key: str, load: Callable[[], Any], tags: Sequence[str] = (), again: Again = None) -> Any:
        """The value of a key, from here, from Redis, or from `load`, which one caller of all calls while the others wait.

        They wait for a bounded time and then load for themselves.

        Args:
            load: returns the value, None when there is none; called in this thread, or in one of ours when a stale value is renewed.
            tags: what else it is invalidated by; the same ones for a key each time. No control characters.
            again: what the same can be asked again by, JSON values without a secret, the same ones for a key each time: the read
                is counted for `hottest` and `asked`. None: it is not.

        Raises:
            what `load` raises.
        """

    def text(self, kind: Kind, key: str, load: Callable[[], Any], tags: Sequence[str] = (), again: Again = None) -> bytes:
        """As `get`, but the JSON of the value, as it is kept: for whoever passes it on."""

    def invalidate(self, *, keys: Iterable[tuple[Kind, str]] = (), tags: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        """Give none of these values any more, nor those that are being loaded now. Idempotent; never raises, never waits for Redis.

        To be called after the change is recorded. What Redis could not be told yet is told it later, and until then this process
        loads such values itself.

        Args:
            prefixes: of tags, up to and with one of their first `TAG_COLONS_MAX` colons: `user:` and `user:7:` are two of `user:7:lists`.

        Raises:
            ValueError: a prefix does not end with a colon or has too many.
        """

    def flush(self, timeout_s: float) -> bool:
        """Wait until Redis was told of every invalidation made here; false when the time was over before."""

    def stats(self) -> CacheStats:
        """What is in it, and what this process did."""

    def hottest(self, limit: int) -> list[Hot]:
        """The reads that were asked most, today and yesterday, by all processes: what Redis was told, some seconds late.

        Of millions of different ones some hundred are counted, and one in some reads: those asked far more than others are among them.
        Without Redis there are none.
        """

    def asked(self, since: float, until: float) -> Asked:
        """Reads in the whole minutes between two times of the wall clock, of the last day; some seconds late, none without Redis."""

    def call_to_warm(self) -> None:
        """Tell every process to load what is hot, by what it gave to `when_called`. May be lost."""

    def when_called(self, warm: Callable[[], None]) -> None:
        """Call this, which must not wait, when some process calls to warm."""

    def clear(self) -> None:
        """Invalidate everything, everywhere."""

    def close(self) -> None:
        """Tell Redis what is left to tell, for a second at most, and end."""


class NoCache:
    """Implements `Cache` and keeps nothing."""

    def get(self, kind: Kind, key: str, load: Callable[[], Any], tags: Sequence[str] = (), again: Again = None) -> Any:  # noqa: ARG002 - as `Cache.get`
        """Load it."""
        return load()

    def text(self, kind: Kind, key: str, load: Callable[[], Any], tags: Sequence[str] = (), again: Again = None) -> bytes:  # noqa: ARG002 - as `Cache.text`
        """Load it, and write it down."""
        return json.dumps(load(), separators=(",", ":")).encode()

    def invalidate(self, *, keys: Iterable[tuple[Kind, str]] = (), tags: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        """There is nothing to do."""

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - as `Cache.flush`
        """There is nothing to tell."""
        return True

    def stats(self) -> CacheStats:
        """Nothing."""
        return CacheStats()

    def hottest(self, limit: int) -> list[Hot]:  # noqa: ARG002 - as `Cache.hottest`
        """Nobody counts."""
        return []

    def asked(self, since: float, until: float) -> Asked:  # noqa: ARG002 - as `Cache.asked`
        """Nobody counts."""
        return Asked()

    def call_to_warm(self) -> None:
        """There is nothing to do."""

    def when_called(self, warm: Callable[[], None]) -> None:
        """Nobody calls."""

    def clear(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """There is nothing to do."""
