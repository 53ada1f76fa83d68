"""How one value is brought: from what processes share, or by its loader, so that an invalidation meanwhile is never lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from worker.coordination.cache.flights import Flight
from worker.coordination.cache.local import Entry
from worker.coordination.cache.outbound import Outbound
from worker.coordination.cache.shared import Answer, CacheBounds, Shared
from worker.coordination.cache.tally import Tally
from worker.coordination.cache.values import NEGATIVE, encoded
from worker.jobs.errors import Transient
from worker.ports.cache import Kind

#: Up to this part of its time is taken off an entry.
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Wanted:
    """A value that is to be brought.

    Attributes:
        marks: all that invalidates it; tags: those that its caller named.
        old: the entry of this process whose time is over.
    """

    kind: Kind
    name: str
    marks: tuple[str, ...]
    tags: tuple[str, ...]
    load: Callable[[], Any]
    tally: Tally
    old: Entry | None

    def entry(self, value: bytes, seen_at: float, fresh_until: float) -> Entry:
        """The value as it is kept in this process."""
        return Entry(value, seen_at, fresh_until, fresh_until + self.kind.tail_s(negative=value == NEGATIVE), self.tags)


class Filling:
    """Brings values, for one process."""

    def __init__(self, shared: Shared, outbound: Outbound, bounds: CacheBounds) -> None:
        self._shared, self._outbound, self._bounds = shared, outbound, bounds

    def bring(self, wanted: Wanted, flight: Flight) -> tuple[bytes, Entry | None]:
        """The value, and the entry to keep in this process, if any. Raises what the loader raises."""
        seen_at, answer = self._look_or_wait(wanted)
        kind, tally = wanted.kind, wanted.tally
        if answer.value is not None and not answer.tokens:
            fresh_until = seen_at + answer.left_s - kind.tail_s(negative=answer.value == NEGATIVE)
            if fresh_until > seen_at:
                tally.shared, tally.negative = tally.shared + 1, tally.negative + (answer.value == NEGATIVE)
                return answer.value, wanted.entry(answer.value, seen_at, fresh_until)
            tally.stale += 1
            return answer.value, None
        tally.misses += 1
        begun = time.monotonic()
        try:
            value = encoded(wanted.load())
        except BaseException as error:
            self._give_up(wanted, answer)
            old = self._in_need(wanted, answer, seen_at) if isinstance(error, Transient) else None
            if old is None:
                raise
            tally.stale += 1
            return old, None
        tally.fills += 1
        return value, self._kept(wanted, flight, answer, value, begun)

    # ---- what other processes have, or are at ----

    def _look_or_wait(self, wanted: Wanted) -> tuple[float, Answer]:
        """The answer, and when it was asked for: a value, or tokens; neither when the server cannot be asked."""
        begun = seen_at = time.monotonic()
        answer = self._look(wanted, alone=False)
        waited = False
        while answer is not None and not answer.tokens and not self._serves(wanted.kind, answer):
            if not waited:
                waited, wanted.tally.waits = True, wanted.tally.waits + 1
            time.sleep(self._bounds.poll_s)
            seen_at = time.monotonic()
            answer = self._look(wanted, alone=seen_at - begun > self._bounds.wait_s)
        return seen_at, answer or Answer(None, 0.0, ())

    def _look(self, wanted: Wanted, *, alone: bool) -> Answer | None:
        if not wanted.kind.shared or not self._is_live() or self._outbound.holds(wanted.marks):
            return None
        try:
            return self._shared.read(wanted.name, wanted.marks, wanted.kind.tail_s(), alone=alone)
        except Transient:
            return None

    def _is_live(self) -> bool:
        """A server that started again may have lost the last invalidations: it is asked only while the subscription lives."""
        return self._shared.heard_at > time.monotonic() - self._bounds.trust_s

    def _serves(self, kind: Kind, answer: Answer) -> bool:
        """Whether the value may be given while another process loads it anew."""
        if answer.value is None:
            return False
        return answer.left_s > kind.tail_s(negative=answer.value == NEGATIVE) - kind.stale_s

    # ---- what was loaded ----

    def _kept(self, wanted: Wanted, flight: Flight, answer: Answer, value: bytes, begun: float) -> Entry | None:
        """Keep it where processes share; the entry for this one, or None when it may be old already."""
        kind, negative = wanted.kind, value == NEGATIVE
        time_s = kind.negative_s if negative else kind.ttl_s
        fresh_until = begun + time_s * (1 - JITTER * random.random())  # noqa: S311 - no secret
        left_s = fresh_until - time.monotonic()
        if left_s <= 0 or len(value) > self._bounds.value_bytes_max or flight.spoiled:
            self._give_up(wanted, answer)
        elif answer.tokens:
            try:
                life_s = left_s + kind.tail_s(negative=negative)
                if not self._shared.keep(wanted.name, wanted.marks, answer.tokens, value, life_s):
                    wanted.tally.lost += 1
                    return None
            except Transient:
                pass  # it is kept here all the same, for as long as the subscription lives
        if flight.spoiled:
            wanted.tally.lost += 1
            return None
        return wanted.entry(value, begun, fresh_until) if left_s > 0 else None

    def _give_up(self, wanted: Wanted, answer: Answer) -> None:
        if answer.tokens:
            with suppress(Transient):  # the lock ends by itself
                self._shared.give_up(wanted.name)

    def _in_need(self, wanted: Wanted, answer: Answer, seen_at: float) -> bytes | None:
        """What is given when the loader fails: not invalidated as far as is known, and over for `error_s` at most."""
        kind, old = wanted.kind, wanted.old
        if answer.value is not None and answer.left_s > kind.tail_s(negative=answer.value == NEGATIVE) - kind.error_s:
            return answer.value
        if old is not None and old.fresh_until + kind.error_s > seen_at and old.value != NEGATIVE:
            return old.value
        return None
