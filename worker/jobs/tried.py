"""What went wrong with a job since its user last asked for it: one entry a cause and engine, so that it stays short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from worker.jobs.states import Cause

#: Entries that are kept; the oldest go.
TRIED_MAX = 16
#: A download that got so much further since it last failed for the same cause begins to be counted anew.
PROGRESS_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tried:
    """Failures of one cause on one engine.

    Attributes:
        engine: empty when there was none yet.
        detail: what was said at the last of them, without secrets.
        times: how many in a row; getting `PROGRESS_BYTES` further begins a new row.
        done: bytes that were there at the last of them.
        anew: what was on the disk was of no use after them.
    """

    engine: str
    cause: Cause
    detail: str
    times: int = 1
    done: int = 0
    anew: bool = False


def with_one_more(
    tried: tuple[Tried, ...], engine: str, cause: Cause, detail: str, done: int = 0, *, anew: bool = False
) -> tuple[Tried, ...]:
    """The entries after another failure, the one it belongs to last."""
    last = next((entry for entry in tried if _key(entry) == (engine, cause, anew)), None)
    others = tuple(entry for entry in tried if entry is not last)
    if last is None:
        entry = Tried(engine, cause, detail, 1, done, anew)
    else:
        times = 1 if done - last.done >= PROGRESS_BYTES and not anew else last.times + 1
        entry = replace(last, detail=detail, times=times, done=done)
    return (*others, entry)[-TRIED_MAX:]


def got_further(before: Iterable[Tried], after: tuple[Tried, ...]) -> bool:
    """Whether the failure that made `after` of `before` began a new row of its cause."""
    return bool(after) and after[-1].times == 1 and any(_key(entry) == _key(after[-1]) for entry in before)


def _key(entry: Tried) -> tuple[str, Cause, bool]:
    return entry.engine, entry.cause, entry.anew


def times(tried: Iterable[Tried], cause: Cause) -> int:
    """How often it failed for this cause, on all engines, and could go on from what was on the disk."""
    return sum(entry.times for entry in tried if entry.cause is cause and not entry.anew)


def moves(tried: Iterable[Tried], cause: Cause) -> int:
    """How many of these were the first of another engine than before, and no second tries."""
    return max(0, len({entry.engine for entry in tried if entry.cause is cause and not entry.anew}) - 1)


def times_anew(tried: Iterable[Tried]) -> int:
    """How often what was on the disk was of no use, whatever the cause."""
    return sum(entry.times for entry in tried if entry.anew)


def summary(tried: Iterable[Tried]) -> str:
    """What each engine said: `aria2: the torrent is broken; qbittorrent (3 times): …`."""
    return "; ".join(f"{entry.engine}{f' ({entry.times} times)' if entry.times > 1 else ''}: {entry.detail}" for entry in tried)
