"""What processes share of a cache, as the layer in each of them uses it; on Redis (`redis.py`) and in memory (`memory.py`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.coordination.cache.popular import Told


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """Times in seconds, sizes in bytes; tests make them smaller.

    Attributes:
        trust_s: without news from the server an entry of this process is given for so long after it was right.
        ping_s: how often the subscription is asked whether it lives; silence_s: when it is given up.
        lock_s: a process that loads keeps others waiting for so long; one that died, no longer.
        wait_s: a caller waits so long for another's load, then it loads itself; poll_s: how often it looks into Redis meanwhile.
        fill_s: a load that takes longer is not kept in Redis.
        value_bytes_max: a longer value is not kept in Redis.
        pending_max: marks that Redis could not be told of yet; with more of them it will be told to forget everything.
        refreshes_max: stale values that are renewed at once or wait for that; more are given and not renewed by this caller.
        close_s: at the end, for what is left to tell.
        tell_s: how often Redis is told what was asked.
    """

    trust_s: float = 1.0
    ping_s: float = 0.25
    silence_s: float = 2.0
    lock_s: float = 3.0
    wait_s: float = 3.0
    poll_s: float = 0.01
    fill_s: float = 60.0
    value_bytes_max: int = 262_144
    pending_max: int = 10_000
    refreshes_max: int = 16
    close_s: float = 1.0
    tell_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found of an entry.

    Attributes:
        value: JSON; None when there is none that all its marks still hold for.
        left_s: until it is of no use; its time is over before, by the tail of its kind.
        tokens: of each mark, when the caller is to load: what is kept afterwards must still find them; else empty.
    """

    value: bytes | None
    left_s: float
    tokens: tuple[str, ...]


class Shared(Protocol):
    """The part of the cache that processes share. Calls raise Transient when the server does not answer.

    Each mark has a token, made at random by the first who loads something with it. To invalidate a mark is to delete its token: the next
    load makes another, and a load that began before finds that its own is gone. Tokens that the server lost invalidate
    what they stood for; no count can begin again at a number that was there before.
    """

    @property
    def heard_at(self) -> float:
        """Every invalidation up to this time (monotonic clock) was handed to `listen`'s callers; -inf while there is no subscription."""

    def listen(self, dropped: Callable[[Collection[str]], None], gap: Callable[[], None]) -> None:
        """Subscribe, for good, in a thread of its own.

        Args:
            dropped: called with the marks that another process invalidated.
            gap: called when some may have been missed, before `heard_at` is anything but -inf again.
        """

    def read(self, name: str, marks: Sequence[str], tail_s: float, *, alone: bool) -> Answer:
        """An entry, and tokens when the caller is to load it: it is not there, or its time is over, and no other process is at it.

        Args:
            alone: load even if another process is at it.
        """

    def keep(self, name: str, marks: Sequence[str], tokens: Sequence[str], value: bytes, life_s: float) -> bool:
        """Keep a value if all tokens still hold, and let others load again; false when they do not hold."""

    def give_up(self, name: str) -> None:
        """Let others load, after a load that failed."""

    def invalidate(self, marks: Sequence[str]) -> None:
        """Delete the tokens of marks and tell every other process."""

    def tell_asked(self, day: int, minute: int, told: Told) -> None:
        """Add to what was asked on a day and in a minute, both counted from the epoch."""

    def asked(self, day: int, limit: int) -> list[tuple[str, float]]:
        """What was asked most on a day, the JSON that `tell_asked` was given and how often."""

    def rates(self, minutes: range) -> tuple[int, int]:
        """Reads in these minutes, and those found."""

    def usage(self) -> tuple[int, int | None, int | None]:
        """Entries, their bytes, and the bound of these; None without an index of ours."""

    def close(self) -> None:
        """End the subscription and release the connections."""
