"""`Coordinator` on Redis or Valkey: short commands and scripts, each one round trip and safe to repeat."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from worker.coordination import buckets, places, wire
from worker.coordination.advice import RedisAdvice
from worker.coordination.bounds import Bounds, batches
from worker.coordination.connection import Connection
from worker.coordination.facts import RedisFacts
from worker.coordination.keys import GROUP, Keys
from worker.coordination.waiting_redis import RedisWaiting
from worker.jobs.errors import Rejected, Transient
from worker.jobs.model import Progress
from worker.jobs.tiers import Bucket
from worker.ports import SWEEPER, EngineSnapshot, IntakeEntry

#: The server reads zero as "for ever", and some round down to milliseconds.
BLOCK_S_MIN = 0.01


class RedisCoordinator:
    """Implements `ports.Coordinator`; made once a process, after fork; safe to use from several threads.

    Redis 6.2, Valkey 7.2 or later; one server, not a Redis Cluster. Every call ends in about `answer_s`, and one
    that waits in its own time-out and about two seconds more, also when the server hangs.

    Args:
        url: see `Connection`.
        prefix: of every key; see `keys`.
        max_connections: of each pool, one for short calls and one for `rest` and waiting `read_events`.

    Raises:
        SettingsError: the address cannot be used.
    """

    def __init__(self, url: str, *, prefix: str = "haul", max_connections: int = 20, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._keys = Keys(prefix)
        self._connection = Connection(url, max_connections=max_connections, bounds=self._bounds)
        self._redis, self._blocking = self._connection.commands, self._connection.blocking
        script = self._connection.script
        self._offer, self._take, self._park = script("offer"), script("take"), script("park")
        self._begin, self._claim, self._unclaim = script("begin"), script("claim"), script("unclaim")
        self._events, self._tokens = script("events"), script("take_tokens")
        server, names = self._connection, self._keys
        waiting, advice, facts = RedisWaiting(server, names), RedisAdvice(server, names), RedisFacts(server)
        self.add_waiting, self.drop_waiting, self.move_turns = waiting.add_waiting, waiting.drop_waiting, waiting.move_turns
        self.waiting_heads, self.waiting_size, self.waiting_place = waiting.waiting_heads, waiting.waiting_size, waiting.waiting_place
        self.freed_lately, self.put_advice, self.advice, self.facts = waiting.freed_lately, advice.put_advice, advice.advice, facts.facts

    def connections(self) -> tuple[int, int]:
        """How many connections are open, and how many of them are lent; of both pools."""
        return self._connection.counts()

    # ---- intake ----

    def offer(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Append messages and wake a sweeper, up to 1,000 in one round trip.

        After an exception some may have been appended; offering all of them again is safe, messages are idempotent.

        Raises:
            Rejected: a message is too long or no JSON, and none was appended; or the intake is full.
        """
        texts = [wire.body_text(body) for body in bodies]
        keys, bounds = [self._keys.intake, self._keys.wake(SWEEPER)], self._bounds
        for batch in batches(texts):
            if self._offer(keys, [bounds.intake_max, int(bounds.wake_s), *batch]) < 0:
                raise Rejected("intake", "too many unread requests", fix="try again later", retry_after_s=bounds.nudge_s)

    def take_intake(self, consumer: str, limit: int) -> list[IntakeEntry]:
        """See `ports.Coordinator`. What a lost answer carried comes again like that of a dead consumer."""
        bounds = self._bounds
        entries = self._take([self._keys.intake], [GROUP, consumer, _ms(bounds.reclaim_s), limit, _ms(bounds.consumer_s)])
        return [IntakeEntry(id, wire.mapping_of(wire.field(values, "body"))) for id, values in entries]

    def ack_intake(self, ids: Sequence[str]) -> None:
        """See `ports.Coordinator`."""
        for batch in batches(ids):
            with self._connection.answers(), self._redis.pipeline() as pipe:
                pipe.xack(self._keys.intake, GROUP, *batch)
                pipe.xdel(self._keys.intake, *batch)
                pipe.execute()

    def park_intake(self, entries: Sequence[IntakeEntry]) -> None:
        """See `ports.Coordinator`. They are kept as they came, but long ones cut, and the newest 1,000 of them."""
        for batch in batches(entries):
            bounds = [self._bounds.parked_max, self._bounds.parked_bytes]
            self._park([self._keys.intake, self._keys.parked], [GROUP, *bounds, *(entry.id for entry in batch)])

    def intake_size(self) -> int:
        """See `ports.Coordinator`."""
        with self._connection.answers():
            return int(self._redis.xlen(self._keys.intake))

    def parked_size(self) -> int:
        """See `ports.Coordinator`."""
        with self._connection.answers():
            return int(self._redis.xlen(self._keys.parked))

    # ---- work that was begun ----

    def begin(self, step: str, ids: Sequence[str], *, again: bool = False) -> dict[str, int]:
        """See `ports.Coordinator`."""
        before: list[int] = []
        for batch in batches(ids):
            keys = [self._keys.begun(step, id) for id in batch]
            before += self._begin(keys, [int(self._bounds.begun_s), secrets.token_hex(8), int(again)])
        return {id: times for id, times in zip(ids, before, strict=True) if times}

    def end(self, step: str, ids: Sequence[str]) -> None:
        """See `ports.Coordinator`."""
        for batch in batches(ids):
            with self._connection.answers():
                self._redis.delete(*(self._keys.begun(step, id) for id in batch))

    # ---- nudges, wakes, claims ----

    def may_nudge(self, step: str) -> bool:
        """See `ports.Coordinator`. Raises Transient when Redis does not answer."""
        return bool(self._claim([self._keys.nudge(step)], [secrets.token_hex(8), _ms(self._bounds.nudge_s)]))

    def looked(self, step: str) -> None:
        """See `ports.Coordinator`."""
        with self._connection.answers():
            self._redis.delete(self._keys.nudge(step))

    def remind(self, step: str, at: float) -> None:
        """See `ports.Coordinator`."""
        with self._connection.answers():
            self._redis.zadd(self._keys.reminders, {step: at}, lt=True)

    def reminders(self, now: float) -> tuple[list[str], float | None]:
        """See `ports.Coordinator`."""
        with self._connection.answers(), self._redis.pipeline() as pipe:
            pipe.zrange(self._keys.reminders, "-inf", now, byscore=True)
            pipe.zremrangebyscore(self._keys.reminders, "-inf", now)
            due, _, rest = pipe.zrange(self._keys.reminders, 0, 0, withscores=True).execute()
        return due, rest[0][1] if rest else None

    def wake(self, loop: str) -> None:
        """See `ports.Coordinator`. Several wakes before a rest end one rest."""
        key = self._keys.wake(loop)
        with self._connection.answers(), self._redis.pipeline() as pipe:
            pipe.lpush(key, "1")
            pipe.ltrim(key, 0, 0)
            pipe.expire(key, int(self._bounds.wake_s))
            pipe.execute()

    def rest(self, loop: str, timeout_s: float) -> bool:
        """See `ports.Coordinator`. Never raises: without Redis it just waits."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            try:
                with self._connection.answers():
                    if self._blocking.blpop([self._keys.wake(loop)], timeout=self._block_s(left)):
                        return True
            except Transient:
                time.sleep(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                return False

    def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """See `ports.Coordinator`."""
        return bool(self._claim([self._keys.claim(name)], [holder, _ms(ttl_s)]))

    def unclaim(self, name: str, holder: str) -> None:
        """See `ports.Coordinator`."""
        self._unclaim([self._keys.claim(name)], [holder])

    # ---- token buckets ----

    def take_tokens(self, asks: Sequence[Sequence[Bucket]], line_s: float = 0.0) -> list[float]:
        """See `ports.Coordinator`. A call whose answer was lost and is sent again may take twice: less is let through, never more."""
        known, numbers = buckets.arranged(asks)
        arguments = [round(line_s * buckets.US), *buckets.figures(known, line_s), *numbers]
        waits = self._tokens([self._keys.bucket(bucket.name) for bucket in known], arguments)
        return [us / buckets.US for us in waits] if asks else []

    def tokens(self, asked: Sequence[Bucket]) -> list[float]:
        """See `ports.Coordinator`."""
        levels = self._tokens([self._keys.bucket(bucket.name) for bucket in asked], [0, *buckets.figures(asked)])
        return [millionths / buckets.US for millionths in levels]

    # ---- progress and snapshots ----

    def count_starts(self, more: int = 0) -> int:
        """See `ports.Coordinator`."""
        with self._connection.answers():
            return int(self._redis.incrby(self._keys.starts, more)) - more

    def put_progress(self, engine: str, rows: Mapping[str, Progress]) -> None:
        """See `ports.Coordinator`. Readers see the old rows or the new ones."""
        key = self._keys.progress(engine)
        with self._connection.answers(), self._redis.pipeline() as pipe:
            pipe.delete(key)
            if rows:
                pipe.execute_command("HSET", key, *(text for id, row in rows.items() for text in (id, wire.progress_text(row))))
                pipe.expire(key, int(self._bounds.progress_s))
            pipe.execute()

    def progress(self, ids_by_engine: Mapping[str, Sequence[str]]) -> dict[str, Progress]:
        """See `ports.Coordinator`."""
        asked = [(engine, list(ids)) for engine, ids in ids_by_engine.items() if ids]
        if not asked:
            return {}
        with self._connection.answers(), self._redis.pipeline(transaction=False) as pipe:
            for engine, ids in asked:
                pipe.hmget(self._keys.progress(engine), ids)
            answers = pipe.execute()
        texts = ((id, text) for (_, ids), row in zip(asked, answers, strict=True) for id, text in zip(ids, row, strict=True))
        return {id: known for id, text in texts if (known := wire.progress_of(text))}

    def put_snapshot(self, snapshot: EngineSnapshot) -> bool:
        """See `ports.Coordinator`."""
        with self._connection.answers(), self._redis.pipeline() as pipe:
            pipe.set(self._keys.engine(snapshot.name), wire.snapshot_text(snapshot), px=_ms(self._bounds.snapshot_s), get=True)
            pipe.sadd(self._keys.engines, snapshot.name)
            before, added = pipe.execute()
        return before is not None and not added

    def snapshots(self) -> dict[str, EngineSnapshot]:
        """See `ports.Coordinator`."""
        with self._connection.answers():
            names = sorted(self._redis.smembers(self._keys.engines))
            texts = self._redis.mget([self._keys.engine(name) for name in names]) if names else []
        found = {name: wire.snapshot_of(text) for name, text in zip(names, texts, strict=True)}
        return {name: snapshot for name, snapshot in found.items() if snapshot}

    # ---- events ----

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """See `ports.Coordinator`. After an exception some may have been appended; readers drop repeats by event id."""
        for batch in batches([wire.event_text(event) for event in events]):
            with self._connection.answers(), self._redis.pipeline(transaction=False) as pipe:
                for text in batch:
                    pipe.xadd(self._keys.events, {"event": text}, maxlen=self._bounds.events_max, approximate=True)
                pipe.execute()

    def read_events(self, after: str | None, limit: int, wait_s: float) -> tuple[list[Mapping[str, Any]], str]:
        """See `ports.Coordinator`. A place is the id of an entry, whose first part is the time in milliseconds.

        Raises:
            Rejected: `after` is no place.
        """
        deadline = time.monotonic() + wait_s
        place = places.checked(after) if after is not None else self._events_behind("", 0)[1]
        while True:
            entries, _ = self._events_behind(place, limit)
            left = deadline - time.monotonic()
            if not entries and left > 0:
                with self._connection.answers():
                    found = self._blocking.xread({self._keys.events: place}, count=limit, block=_ms(self._block_s(left)))
                entries = [(id, values["event"]) for _, rows in found or [] for id, values in rows if "event" in values]
            if entries or time.monotonic() >= deadline:
                events = [event for _, text in entries if (event := wire.mapping_of(text)) is not None]
                return events, entries[-1][0] if entries else place

    def _events_behind(self, place: str, limit: int) -> tuple[list[tuple[str, str]], str]:
        first, last, trimmed, rows = self._events([self._keys.events], [place, limit])
        if place:
            places.require(place, places.Kept(first or None, last, bool(trimmed)), time.time())
        return [(id, wire.field(values, "event") or "") for id, values in rows], last

    # ---- the rest ----

    def ping(self) -> None:
        """See `ports.Coordinator`."""
        with self._connection.answers():
            self._redis.ping()

    def close(self) -> None:
        """See `ports.Coordinator`."""
        self._connection.close()

    def _block_s(self, left_s: float) -> float:
        return max(BLOCK_S_MIN, min(left_s, self._bounds.block_s))


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
