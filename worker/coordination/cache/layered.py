"""`Cache`: entries in this process over those that processes share, one load for all who ask, and invalidation that no load outruns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from worker.coordination.cache.filling import Filling, Wanted
from worker.coordination.cache.flights import Flight, Flights
from worker.coordination.cache.local import Entry, Local
from worker.coordination.cache.marks import EVERYTHING, WARM, marks_of, marks_to_drop
from worker.coordination.cache.outbound import Outbound
from worker.coordination.cache.popular import DAY_S, YESTERDAY, Popular, hot_of
from worker.coordination.cache.shared import CacheBounds, Shared
from worker.coordination.cache.tally import Tallies
from worker.coordination.cache.values import NEGATIVE, decoded, encoded
from worker.jobs.errors import Transient
from worker.ports.cache import Again, Asked, CacheStats, Hot, Kind

REFRESH_THREADS = 2
#: Of which rates are asked for at once.
MINUTES_MAX = 1_500

Load = Callable[[], Any]


class LayeredCache:
    """Implements `ports.Cache`; one a process, for all its threads; made after fork, its threads begin with its first use.

    Args:
        bytes_max: what the entries in this process may take.
    """

    def __init__(self, shared: Shared, *, bytes_max: int, bounds: CacheBounds | None = None) -> None:
        self._shared, self._bounds = shared, bounds or CacheBounds()
        self._trust_s = self._bounds.trust_s
        self._lock = threading.Lock()
        self._local, self._flights, self._tallies = Local(bytes_max), Flights(), Tallies()
        self._outbound = Outbound(shared.invalidate, self._bounds)
        self._filling = Filling(shared, self._outbound, self._bounds)
        self._refreshes = ThreadPoolExecutor(REFRESH_THREADS, thread_name_prefix="cache-refresh")
        self._refreshing = 0
        self._listening = self._closed = False
        self._popular, self._tell_at = Popular(), time.monotonic() + self._bounds.tell_s
        self._warm: Callable[[], None] | None = None

    # ---- the port ----

    def get(self, kind: Kind, key: str, load: Load, tags: Sequence[str] = (), again: Again = None) -> Any:
        """See `ports.Cache`."""
        return decoded(self.text(kind, key, load, tags, again))

    def text(self, kind: Kind, key: str, load: Load, tags: Sequence[str] = (), again: Again = None) -> bytes:
        """See `ports.Cache`."""
        name, now = f"{kind.name}:{key}", time.monotonic()  # `entry_id`; a hit is worth as little as it costs
        with self._lock:
            entry = self._local.get(name)
            if entry is not None and entry.fresh_until > now and self._trusts(entry, now):
                self._tallies.of(kind).here(entry.value)
                if again is not None:
                    self._popular.saw(kind, name, again, found=True)
                return entry.value
        return self._ask(kind, name, load, tuple(tags)) if again is None else self._counted(kind, name, load, tuple(tags), again)

    def invalidate(self, *, keys: Iterable[tuple[Kind, str]] = (), tags: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        """See `ports.Cache`."""
        self._forget(marks_to_drop(keys, tags, prefixes))

    def clear(self) -> None:
        """See `ports.Cache`."""
        self._forget([EVERYTHING])

    def flush(self, timeout_s: float) -> bool:
        """See `ports.Cache`."""
        return self._outbound.wait(timeout_s)

    def stats(self) -> CacheStats:
        """See `ports.Cache`."""
        entries = size = size_max = None
        with suppress(Transient):
            entries, size, size_max = self._shared.usage()
        with self._lock:
            return CacheStats(
                entries=len(self._local),
                bytes=self._local.bytes,
                bytes_max=self._local.bytes_max,
                live=self._is_live(),
                shared_entries=entries,
                shared_bytes=size,
                shared_bytes_max=size_max,
                kinds=self._tallies.shown(),
            )

    def figures(self) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """What `Metrics.watch_cache` shows; asks no server."""
        with self._lock:
            gauges = {"entries": len(self._local), "bytes": self._local.bytes, "live": int(self._is_live())}
            return gauges, {kind: asdict(stats) for kind, stats in self._tallies.shown().items()}

    def hottest(self, limit: int) -> list[Hot]:
        """See `ports.Cache`."""
        today, counts = int(time.time() // DAY_S), dict[str, float]()
        with suppress(Transient):
            for day, worth in ((today, 1.0), (today - 1, YESTERDAY)):
                for text, count in self._shared.asked(day, limit):
                    counts[text] = counts.get(text, 0.0) + worth * count
        first = sorted(counts, key=lambda text: counts[text], reverse=True)[:limit]
        return [hot for text in first if (hot := hot_of(text, counts[text])) is not None]

    def asked(self, since: float, until: float) -> Asked:
        """See `ports.Cache`."""
        minutes = range(-int(-since // 60), int(until // 60))
        with suppress(Transient):
            return Asked(*self._shared.rates(minutes[-MINUTES_MAX:]))
        return Asked()

    def call_to_warm(self) -> None:
        """See `ports.Cache`."""
        self._forget([WARM])

    def when_called(self, warm: Callable[[], None]) -> None:
        """See `ports.Cache`."""
        self._warm = warm
        self._listen()

    def close(self) -> None:
        """See `ports.Cache`."""
        with self._lock:
            self._closed = True
        self._tell()
        self._outbound.close(self._bounds.close_s)
        self._refreshes.shutdown(wait=False, cancel_futures=True)
        self._shared.close()

    # ---- what is known of the other processes ----

    def _trusts(self, entry: Entry, now: float) -> bool:
        """Whether an invalidation of more than `trust_s` ago would have come in by now, or was before it."""
        trusted = now - self._trust_s
        return entry.seen_at > trusted or self._shared.heard_at > trusted

    def _is_live(self) -> bool:
        return self._shared.heard_at > time.monotonic() - self._bounds.trust_s

    def _listen(self) -> None:
        """Begin with the first read: a process that only invalidates needs no subscription."""
        with self._lock:
            begin, self._listening = not (self._listening or self._closed), True
        if begin:
            self._shared.listen(self._dropped, self._gap)

    def _dropped(self, marks: Collection[str]) -> None:
        with self._lock:
            self._flights.spoil(marks)
            self._local.drop(marks)
        if WARM in marks and self._warm is not None:
            self._warm()

    def _gap(self) -> None:
        with self._lock:
            self._flights.spoil()
            self._local.clear()

    def _forget(self, marks: Sequence[str]) -> None:
        if marks:
            self._outbound.add(marks)  # first: from now on nobody here asks Redis for them
            self._dropped(marks)

    # ---- what is asked for most ----

    def _counted(self, kind: Kind, name: str, load: Load, tags: tuple[str, ...], again: Again) -> bytes:
        loads = []

        def loaded() -> Any:
            loads.append(True)
            return load()

        try:
            return self._ask(kind, name, loaded, tags)
        finally:
            with self._lock:
                self._popular.saw(kind, name, again, found=not loads)
                if time.monotonic() >= self._tell_at and not self._closed:
                    self._tell_at = time.monotonic() + self._bounds.tell_s
                    self._refreshes.submit(self._tell)

    def _tell(self) -> None:
        """Tell Redis what was counted since the last time; what it does not take is lost."""
        with self._lock:
            told = self._popular.taken()
        if told.reads:
            with suppress(Transient):
                now = time.time()
                self._shared.tell_asked(int(now // DAY_S), int(now // 60), told)

    # ---- what is not here ----

    def _ask(self, kind: Kind, name: str, load: Load, tags: tuple[str, ...]) -> bytes:
        """The value as JSON: one caller loads it, the others wait, or have the stale one."""
        self._listen()
        marks, now = marks_of(name, tags), time.monotonic()
        with self._lock:
            tally, entry, flight = self._tallies.of(kind), self._local.get(name), self._flights.get(name)
            wanted = Wanted(kind, name, marks, tags, load, tally, entry)
            if entry is not None and self._trusts(entry, now):
                if entry.fresh_until > now:  # somebody has just brought it
                    tally.here(entry.value)
                    return entry.value
                if entry.fresh_until + kind.stale_s > now and entry.value != NEGATIVE:
                    tally.stale += 1
                    if flight is None:
                        self._refresh_soon(wanted)
                    return entry.value
            if flight is not None:
                tally.waits += 1
            begun = self._flights.begin(name, marks) if flight is None else None
        return self._lead(wanted, begun) if begun else self._follow(wanted, flight)

    def _lead(self, wanted: Wanted, flight: Flight) -> bytes:
        entry = None
        try:
            flight.value, entry = self._filling.bring(wanted, flight)
            return flight.value
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                if entry is not None and not flight.spoiled:
                    self._local.put(wanted.name, entry)
                self._flights.end(wanted.name, flight)

    def _follow(self, wanted: Wanted, flight: Flight | None) -> bytes:
        if flight is not None and flight.ended.wait(self._bounds.wait_s):
            if flight.error is not None:
                raise flight.error
            if flight.value is not None:
                return flight.value
        wanted.tally.misses += 1
        return encoded(wanted.load())

    def _refresh_soon(self, wanted: Wanted) -> None:
        """Bring it anew in another thread, unless enough of that goes on; under the lock."""
        if self._refreshing < self._bounds.refreshes_max and not self._closed:
            self._refreshing += 1
            self._refreshes.submit(self._refresh, wanted, self._flights.begin(wanted.name, wanted.marks))

    def _refresh(self, wanted: Wanted, flight: Flight) -> None:
        try:
            with suppress(Exception):  # whoever asks when the value is too old meets the error himself
                self._lead(wanted, flight)
        finally:
            with self._lock:
                self._refreshing -= 1
