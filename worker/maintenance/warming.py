"""The work `warm`: what was asked for most is read before it is asked for again.

What repeats is what the cache counted (`Cache.hottest`); how it is read is how viewers read it (`Services.again`). An answer lives for
a second (`worker.reads`), so what is gained is mostly below it: connections are open, code is loaded, and the records that will be asked
for are in the store's own memory. It goes gently: one read after the other, with a rest as long as the read took, and longer when the
store is slow.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker import doing, logs
from worker.jobs.errors import Rejected, Transient
from worker.maintenance.report import Report
from worker.ports import Asked, Run, Services

#: The name in the ledger.
NAME = "warm"
#: For everything, and how many reads at most.
WARM_S = 30.0
READS_MAX = 500
#: A read that takes longer says that the store has enough to do: so many times as long it is left alone then, but no longer than that.
SLOW_S = 0.05
SLOW_TIMES = 10.0
REST_MAX_S = 2.0
#: When so many reads in a row found no store, there is none.
FAILURES_MAX = 3
#: The hit rates before a run and after it are those of so long.
WINDOW_S = 300.0
#: A process warms itself no more often, whoever calls.
CALLS_EVERY_S = 60.0

log = logs.get(__name__)

Rest = Callable[[float], Any]


@dataclass(slots=True)
class Warmed:
    """What one warming did.

    Attributes:
        kinds: reads by kind; slow: those after which the store was left alone for longer.
        away: the store did not answer, and it was ended.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    slow: int = 0
    failed: int = 0
    seconds: float = 0.0
    away: bool = False

    @property
    def reads(self) -> int:
        """All of them."""
        return self.kinds.total()


def warm(services: Services, *, rest: Rest = time.sleep, within_s: float = WARM_S) -> Warmed:
    """Read what is hot, the hottest first, into this process and what it shares; other processes are not told.

    Args:
        rest: waits for so many seconds; returns true to end it.
    """
    done, begun, in_a_row = Warmed(), time.monotonic(), 0
    for hot in services.cache.hottest(READS_MAX):
        ask = services.again.get(hot.kind)
        if ask is None:
            continue
        if time.monotonic() - begun >= within_s or done.away:
            break
        asked_at = time.monotonic()
        try:
            with doing.at("warm"):
                ask(*hot.again)
            done.kinds[hot.kind] += 1
            in_a_row = 0
        except Transient:
            done.failed, in_a_row = done.failed + 1, in_a_row + 1
            done.away = in_a_row >= FAILURES_MAX
        except (Rejected, TypeError, ValueError):  # written by another version, or not by us
            done.failed += 1
        took = time.monotonic() - asked_at
        done.slow += took > SLOW_S
        left = max(0.0, begun + within_s - time.monotonic())
        if rest(min(left, REST_MAX_S, took * SLOW_TIMES if took > SLOW_S else took)):
            break
    done.seconds = time.monotonic() - begun
    return done


def run(services: Services) -> Report:
    """Read what is hot, have every API process do so too, and say what the run before this one changed; idempotent.

    Not ok when the store did not answer. The report's figures are what the next run compares with.
    """
    at = services.clock.time()
    before = services.cache.asked(at - WINDOW_S, at)
    services.cache.call_to_warm()
    done = warm(services)
    last = effect(services)
    figures = {
        "reads": done.reads,
        "slow_reads": done.slow,
        "failed_reads": done.failed,
        "seconds": round(done.seconds, 3),
        "asked_before": before.reads,
        **({"hit_rate_before": round(before.rate, 4)} if before.rate is not None else {}),
    }
    summary = f"{done.reads} of the most asked reads in {done.seconds:.1f} s" if done.reads else "nothing was asked for lately"
    summary += "; the store did not answer" if done.away else f"; {_words(last)}" if last else ""
    return Report(not done.away, summary, figures, {"kinds": dict(done.kinds), "last": last})


def effect(services: Services) -> dict[str, Any]:
    """Of the last run that ended: when it ended, and the hit rates of the minutes before it and after it; empty when not known.

    What is not known is left out: nobody may have asked for anything, or Redis lost the counts.
    """
    ended = next((each for each in services.store.runs(NAME, 5) if each.ended_at and each.ok), None)
    if ended is None or not ended.ended_at or services.clock.time() < ended.ended_at + WINDOW_S:
        return {}
    after = services.cache.asked(ended.ended_at, ended.ended_at + WINDOW_S)
    return {"slot": ended.slot, "reads": _figures(ended).get("reads", 0), **_rates(ended, after)}


def _rates(ended: Run, after: Asked) -> dict[str, Any]:
    before = _figures(ended).get("hit_rate_before")
    rates = {"hit_rate_before": before, "hit_rate_after": None if after.rate is None else round(after.rate, 4)}
    return {**{name: rate for name, rate in rates.items() if rate is not None}, "asked_after": after.reads}


def _figures(run: Run) -> Mapping[str, Any]:
    figures = run.report.get("figures", {})
    return figures if isinstance(figures, Mapping) else {}


def _words(last: Mapping[str, Any]) -> str:
    before, after = last.get("hit_rate_before"), last.get("hit_rate_after")
    if before is None or after is None:
        return "of the run before nobody knows what it changed, for nobody asked"
    return f"the run before took the hit rate from {before:.0%} to {after:.0%}"


class Warmer:
    """Warms the process that it lives in: once it has started, and when it is called; in a thread of its own, which never raises."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._called, self._over = threading.Event(), threading.Event()
        self._called.set()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a process without a cache has nothing to warm."""
        self._services.cache.when_called(self._called.set)
        self._thread = threading.Thread(target=self._run, name="warmer", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = REST_MAX_S) -> None:
        """End soon; idempotent."""
        self._over.set()
        self._called.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._over.is_set():
            self._called.wait()
            self._called.clear()
            if self._over.is_set():
                return
            try:
                done = warm(self._services, rest=self._over.wait)
                log.debug("warmed", reads=done.reads, seconds=round(done.seconds, 3), failed=done.failed)
            except Exception:  # it is a courtesy to the first who ask
                if not self._over.is_set():
                    log.exception("warming failed in a way it should not; the next call begins anew")
            self._over.wait(CALLS_EVERY_S)
