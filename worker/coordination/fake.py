"""`Coordinator` in memory, with the promises of the real one; for tests of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from worker.coordination import buckets, places, wire
from worker.coordination.advice import FakeAdvice
from worker.coordination.bounds import Bounds
from worker.coordination.facts import FakeFacts
from worker.coordination.memory import Memory, Message
from worker.coordination.waiting_fake import FakeWaiting
from worker.jobs.errors import Rejected, Transient
from worker.jobs.model import Progress
from worker.jobs.tiers import Bucket
from worker.ports import SWEEPER, EngineSnapshot, IntakeEntry


class FakeCoordinator:
    """Implements `ports.Coordinator`.

    Args:
        clock: seconds, for everything that runs out and for the times in event ids; waits take real time.
        memory: of another fake, to be a second process beside it.

    Attributes:
        down: while true every call fails as with a Redis that does not answer.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, bounds: Bounds | None = None, memory: Memory | None = None) -> None:
        self.down = False
        self.memory = memory or Memory()
        self._clock, self._bounds = clock, bounds or Bounds()
        waiting, advice, facts = FakeWaiting(self._open), FakeAdvice(self._open, clock), FakeFacts(self._open)
        self.add_waiting, self.drop_waiting, self.move_turns = waiting.add_waiting, waiting.drop_waiting, waiting.move_turns
        self.waiting_heads, self.waiting_size, self.waiting_place = waiting.waiting_heads, waiting.waiting_size, waiting.waiting_place
        self.freed_lately, self.put_advice, self.advice, self.facts = waiting.freed_lately, advice.put_advice, advice.advice, facts.facts

    def flush(self) -> None:
        """Lose everything, as FLUSHALL does."""
        with self._open() as memory:
            fresh = Memory()
            for name in Memory.__slots__:
                if name not in ("changed", "count"):
                    setattr(memory, name, getattr(fresh, name))

    # ---- intake ----

    def offer(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """See `ports.Coordinator`."""
        texts = [wire.body_text(body) for body in bodies]
        with self._open() as memory:
            if not texts:
                return
            if len(memory.intake) >= self._bounds.intake_max:
                raise Rejected("intake", "too many unread requests", fix="try again later", retry_after_s=self._bounds.nudge_s)
            for text in texts:
                memory.count += 1
                memory.intake[f"{memory.count}-0"] = Message(text)
            self._set(f"wake {SWEEPER}", self._bounds.wake_s)
            memory.changed.notify_all()

    def offer_text(self, text: str) -> None:
        """Append a message as a stranger may have written it."""
        with self._open() as memory:
            memory.count += 1
            memory.intake[f"{memory.count}-0"] = Message(text)

    def take_intake(self, consumer: str, limit: int) -> list[IntakeEntry]:  # noqa: ARG002 - all consumers are alike here
        """See `ports.Coordinator`."""
        with self._open() as memory:
            now = self._clock()
            left = [i for i, m in memory.intake.items() if m.taken_at is not None and now - m.taken_at >= self._bounds.reclaim_s]
            unread = [i for i, m in memory.intake.items() if m.taken_at is None]
            taken = [*left, *unread][:limit]
            for id in taken:
                memory.intake[id].taken_at = now
            return [IntakeEntry(id, wire.mapping_of(memory.intake[id].text)) for id in taken]

    def ack_intake(self, ids: Sequence[str]) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            for id in ids:
                memory.intake.pop(id, None)

    def park_intake(self, entries: Sequence[IntakeEntry]) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            for entry in entries:
                message = memory.intake.pop(entry.id, None)
                if message:
                    memory.parked.append(message.text)
                if len(memory.parked) > self._bounds.parked_max:
                    memory.parked.popleft()

    def intake_size(self) -> int:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            return len(memory.intake)

    def parked_size(self) -> int:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            return len(memory.parked)

    # ---- work that was begun ----

    def begin(self, step: str, ids: Sequence[str], *, again: bool = False) -> dict[str, int]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            now, kept = self._clock(), {id: memory.begun.get((step, id), (0, 0.0)) for id in ids}
            before = {id: times for id, (times, until) in kept.items() if until > now}
            noted = ids if again else [id for id in ids if id not in before]
            memory.begun.update(((step, id), (before.get(id, 0) + 1, now + self._bounds.begun_s)) for id in noted)
            return before

    def end(self, step: str, ids: Sequence[str]) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            for id in ids:
                memory.begun.pop((step, id), None)

    # ---- nudges, wakes, claims ----

    def may_nudge(self, step: str) -> bool:
        """See `ports.Coordinator`."""
        with self._open():
            return self._set(f"nudge {step}", self._bounds.nudge_s)

    def looked(self, step: str) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            memory.flags.pop(f"nudge {step}", None)

    def remind(self, step: str, at: float) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            memory.reminders[step] = min(at, memory.reminders.get(step, at))

    def reminders(self, now: float) -> tuple[list[str], float | None]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            due = [step for step, at in memory.reminders.items() if at <= now]
            for step in due:
                del memory.reminders[step]
            return due, min(memory.reminders.values(), default=None)

    def wake(self, loop: str) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            self._set(f"wake {loop}", self._bounds.wake_s)
            memory.changed.notify_all()

    def rest(self, loop: str, timeout_s: float) -> bool:
        """See `ports.Coordinator`."""
        with self.memory.changed:
            if self.down:
                self.memory.changed.wait_for(lambda: False, timeout_s)
                return False
            woken = self.memory.changed.wait_for(lambda: self._is_set(f"wake {loop}"), timeout_s)
            self.memory.flags.pop(f"wake {loop}", None)
            return woken

    def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """See `ports.Coordinator`."""
        with self._open():
            return self._set(f"claim {name}", ttl_s, holder)

    def unclaim(self, name: str, holder: str) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            if memory.flags.get(f"claim {name}", ("", 0.0))[0] == holder:
                del memory.flags[f"claim {name}"]

    # ---- token buckets ----

    def take_tokens(self, asks: Sequence[Sequence[Bucket]], line_s: float = 0.0) -> list[float]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            waits = buckets.take(memory.buckets, asks, round(self._clock() * buckets.US), round(line_s * buckets.US))
            return [us / buckets.US for us in waits]

    def tokens(self, asked: Sequence[Bucket]) -> list[float]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            now = round(self._clock() * buckets.US)
            return [buckets.held(memory.buckets.get(b.name, buckets.Level(b.burst, now)), b, now) for b in asked]

    # ---- progress and snapshots ----

    def count_starts(self, more: int = 0) -> int:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            memory.starts += more
            return memory.starts - more

    def put_progress(self, engine: str, rows: Mapping[str, Progress]) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            texts = {id: wire.progress_text(row) for id, row in rows.items()}
            memory.progress[engine] = (texts, self._clock() + self._bounds.progress_s)

    def progress(self, ids_by_engine: Mapping[str, Sequence[str]]) -> dict[str, Progress]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            known: dict[str, Progress] = {}
            for engine, ids in ids_by_engine.items():
                texts, until = memory.progress.get(engine, ({}, 0.0))
                rows = {id: wire.progress_of(texts.get(id)) for id in ids} if until > self._clock() else {}
                known.update((id, row) for id, row in rows.items() if row)
            return known

    def put_snapshot(self, snapshot: EngineSnapshot) -> bool:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            _, until = memory.snapshots.get(snapshot.name, ("", 0.0))
            memory.snapshots[snapshot.name] = (wire.snapshot_text(snapshot), self._clock() + self._bounds.snapshot_s)
            return until > self._clock()

    def snapshots(self) -> dict[str, EngineSnapshot]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            found = {name: wire.snapshot_of(text) for name, (text, until) in memory.snapshots.items() if until > self._clock()}
            return {name: snapshot for name, snapshot in found.items() if snapshot}

    # ---- events ----

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """See `ports.Coordinator`."""
        texts = [wire.event_text(event) for event in events]
        with self._open() as memory:
            for text in texts:
                now_ms, (last_ms, number) = int(self._clock() * 1_000), places.order(memory.last)
                memory.last = f"{now_ms}-0" if now_ms > last_ms else f"{last_ms}-{number + 1}"
                memory.events.append((memory.last, text))
            memory.trimmed = memory.trimmed or len(memory.events) > self._bounds.events_max
            del memory.events[: -self._bounds.events_max]
            memory.changed.notify_all()

    def read_events(self, after: str | None, limit: int, wait_s: float) -> tuple[list[Mapping[str, Any]], str]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            place = places.checked(after) if after is not None else memory.last
            self._require(place)
            memory.changed.wait_for(lambda: memory.last != place, wait_s)
            self._require(place)
            found = [entry for entry in memory.events if places.order(entry[0]) > places.order(place)][:limit]
            events = [event for _, text in found if (event := wire.mapping_of(text)) is not None]
            return events, found[-1][0] if found else place

    def _require(self, place: str) -> None:
        memory = self.memory
        first = memory.events[0][0] if memory.events else None
        places.require(place, places.Kept(first, memory.last, memory.trimmed), self._clock())

    # ---- the rest ----

    def ping(self) -> None:
        """See `ports.Coordinator`."""
        with self._open():
            pass

    def close(self) -> None:
        """See `ports.Coordinator`."""

    @contextmanager
    def _open(self) -> Iterator[Memory]:
        with self.memory.changed:
            if self.down:
                raise Transient("redis", "the fake is down")
            yield self.memory

    def _is_set(self, name: str) -> bool:
        return self.memory.flags.get(name, ("", 0.0))[1] > self._clock()

    def _set(self, name: str, ttl_s: float, holder: str | None = None) -> bool:
        if self._is_set(name) and (holder is None or self.memory.flags[name][0] != holder):
            return False
        self.memory.flags[name] = (holder or "", self._clock() + ttl_s)
        return True
