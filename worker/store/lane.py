"""Writes of one kind by many threads, in few calls to the store, without a moment's wait for others to come.

A thread that finds the lane idle writes at once, itself. What arrives meanwhile is the next batch, written by the first of those who
wait in it. There is no thread of the lane's own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from worker import logs
from worker.jobs.errors import LeaseLost, Transient
from worker.store.meter import Meter

T = TypeVar("T")
A = TypeVar("A")

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a lane keeps within.

    Attributes:
        batch_items, batch_bytes: of one call to the store, unless a single caller gives more. MongoDB takes 100,000 operations and
            48 MB a message; a larger batch would also keep its first caller waiting.
        waiting_items: that wait in all; who comes with more waits for room.
        room_s: how long a caller waits for that, and `answer_s` how long in all: longer than the time-outs of two calls.
        retry_after_s: the pauses before a call that failed in passing is made again.
        retry_within_s: a call that has taken so long has had its time.
    """

    batch_items: int = 1_000
    batch_bytes: int = 16 * 1024 * 1024
    waiting_items: int = 10_000
    room_s: float = 10.0
    answer_s: float = 60.0
    retry_after_s: tuple[float, ...] = (0.05, 0.2, 0.5)
    retry_within_s: float = 2.0

    def __post_init__(self) -> None:
        """Raises ValueError for a bound nothing could be written within."""
        for name in ("batch_items", "batch_bytes", "waiting_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class _Entry(Generic[T, A]):
    """One caller's write. `turn` is set when it is answered, or when its caller is to write the next batch."""

    __slots__ = ("answers", "error", "items", "since", "size", "turn")

    def __init__(self, items: Sequence[T]) -> None:
        self.items = items
        self.size = 0
        self.since = 0.0
        self.turn: threading.Event | None = None
        self.answers: list[A] | None = None
        self.error: BaseException | None = None

    @property
    def over(self) -> bool:
        return self.answers is not None or self.error is not None

    def result(self) -> list[A]:
        if self.answers is None:
            raise self.error or Transient("store", "the write was broken off")
        return self.answers


class Lane(Generic[T, A]):
    """See the module. Writes of one thread keep their order; of those that wait at once none comes before the other.

    Args:
        call: writes the items, and answers each in order; made again with the same items it must do no more than once.
        ping: raises Transient when the store does not answer.
        size_of: roughly the bytes of an item; asked only of those that have to wait.
    """

    def __init__(
        self, call: Callable[[list[T]], list[A]], ping: Callable[[], None], size_of: Callable[[T], int], bounds: Bounds, meter: Meter
    ) -> None:
        self._call = call
        self._ping = ping
        self._size_of = size_of
        self._bounds = bounds
        self._meter = meter
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting: deque[_Entry[T, A]] = deque()
        self._waiting_items = 0
        self._busy = False

    def put(self, items: Sequence[T]) -> list[A]:
        """Write the items; their answers, in order.

        Raises:
            Transient: it is not known to be done.
            LeaseLost, Rejected, ValueError: as the store does, of these items alone.
        """
        entry: _Entry[T, A] = _Entry(items)
        with self._lock:
            idle = not self._busy
            self._busy = True
            if not idle:
                self._line_up(entry)
        if idle:
            self._lead([entry])
        elif self._wait(entry):
            self._lead(self._next(entry))
        return entry.result()

    def drain(self, timeout_s: float) -> None:
        """Return when all that was put before is answered, or after this time."""
        with self._lock:
            self._room.wait_for(lambda: not self._busy, timeout_s)

    # ---- waiting ---------------------------------------------------------------------------------------------------

    def _line_up(self, entry: _Entry[T, A]) -> None:
        """Join the waiting ones; with the lock held."""
        bounds, count = self._bounds, len(entry.items)
        if not self._room.wait_for(lambda: not self._waiting or self._waiting_items + count <= bounds.waiting_items, bounds.room_s):
            self._meter.failed("full")
            raise Transient("store", f"{self._waiting_items} writes wait for it; no more are taken")
        entry.since, entry.turn, entry.size = time.monotonic(), threading.Event(), sum(map(self._size_of, entry.items))
        self._waiting.append(entry)
        self._waiting_items += count
        self._meter.buffered(count)
        if not self._busy:  # while this waited for room, all others were answered
            self._busy = True
            entry.turn.set()

    def _wait(self, entry: _Entry[T, A]) -> bool:
        """True when this caller is to write the next batch."""
        assert entry.turn is not None
        try:
            told = entry.turn.wait(self._bounds.answer_s)
        except BaseException:
            self._withdraw(entry)
            raise
        if not told:
            self._withdraw(entry, late=True)
            entry.error = entry.error or Transient("store", f"no answer within {self._bounds.answer_s:g} s")
        self._meter.waited(time.monotonic() - entry.since)
        return not entry.over

    def _withdraw(self, entry: _Entry[T, A], *, late: bool = False) -> None:
        """Leave the line; what is being written is not called back.

        Args:
            late: no call takes so long, so whoever was to write has gone, as when a signal ended it; the next one writes.
        """
        with self._lock:
            if entry not in self._waiting:
                return
            self._waiting.remove(entry)
            self._left(entry)
            if late or (entry.turn is not None and entry.turn.is_set()):
                self._hand_over()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def _next(self, first: _Entry[T, A]) -> list[_Entry[T, A]]:
        """What waits, as much as goes into one call; `first` is the first of them."""
        batch, items, size = [first], len(first.items), first.size
        with self._lock:
            self._waiting.remove(first)
            self._left(first)
            while self._waiting:
                entry = self._waiting[0]
                items, size = items + len(entry.items), size + entry.size
                if items > self._bounds.batch_items or size > self._bounds.batch_bytes:
                    break
                self._waiting.popleft()
                self._left(entry)
                batch.append(entry)
        return batch

    def _left(self, entry: _Entry[T, A]) -> None:
        self._waiting_items -= len(entry.items)
        self._meter.buffered(-len(entry.items))
        self._room.notify_all()

    def _lead(self, batch: list[_Entry[T, A]]) -> None:
        try:
            self._settle(batch, time.monotonic() + self._bounds.retry_within_s, self._bounds.retry_after_s)
        finally:
            with self._lock:
                self._hand_over()
            for entry in batch:
                if not entry.over:
                    entry.error = Transient("store", "the write was broken off")
                if entry.turn is not None:
                    entry.turn.set()

    def _hand_over(self) -> None:
        """The first of those that wait writes next; with the lock held."""
        self._busy = bool(self._waiting)
        if self._waiting and (turn := self._waiting[0].turn):
            turn.set()
        self._room.notify_all()

    def _settle(self, batch: list[_Entry[T, A]], until: float, pauses: Sequence[float]) -> None:
        """Write a batch and answer everybody in it; when it cannot be written as it is, its halves, so that each fails for itself."""
        try:
            answers = self._written(batch, until, pauses)
        except Exception as error:
            passing = isinstance(error, Transient)
            if len(batch) == 1 or isinstance(error, LeaseLost) or (passing and (time.monotonic() > until or not self._answers())):
                self._meter.failed("raised", len(batch))
                for entry in batch:
                    entry.error = _own(error)
                return
            self._meter.failed("split")
            log.info("a batch of writes is split", writes=len(batch), error=str(error) if passing else type(error).__name__)
            middle = len(batch) // 2
            self._settle(batch[:middle], until, ())
            self._settle(batch[middle:], until, ())
        else:
            start = 0
            for entry in batch:
                entry.answers = answers[start : start + len(entry.items)]
                start += len(entry.items)

    def _answers(self) -> bool:
        """False when the store is away: then its silence is no fault of one write among others."""
        try:
            self._ping()
        except Transient:
            return False
        return True

    def _written(self, batch: list[_Entry[T, A]], until: float, pauses: Sequence[float]) -> list[A]:
        items = [item for entry in batch for item in entry.items]
        for pause in (*pauses, None):
            begun = time.monotonic()
            try:
                return self._call(items)
            except LeaseLost:
                raise
            except Transient:
                if pause is None or time.monotonic() + pause > until:
                    raise
                self._meter.failed("retried")
                time.sleep(pause)
            finally:
                self._meter.written(len(items), time.monotonic() - begun)
        raise AssertionError("the last try returns or raises")


def _own(error: Exception) -> Exception:
    """An exception for one caller: threads that raise the same one would write into each other's traceback."""
    return type(error)(error.service, error.detail) if isinstance(error, Transient) else error
