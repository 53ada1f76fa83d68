"""The waiting index of the coordinator on Redis or Valkey; `lua/waiting_*.lua` have what it does."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Sequence

from worker.coordination import waiting
from worker.coordination.bounds import BATCH, batches
from worker.coordination.connection import Connection
from worker.coordination.keys import Keys
from worker.limits import TURN_BOUND_S, TURN_GAP_S
from worker.ports import Freed, Heads, TurnsMoved, WaitingJob, WaitingLine


class RedisWaiting:
    """That part of `ports.Coordinator`."""

    def __init__(self, server: Connection, names: Keys) -> None:
        self._server, self._names = server, names
        self._add, self._drop = server.script("waiting_add"), server.script("waiting_drop")
        self._heads, self._place = server.script("waiting_heads"), server.script("waiting_place")
        self._move = server.script("waiting_move")

    def add_waiting(self, jobs: Sequence[WaitingJob]) -> None:
        """See `ports.Coordinator`. Adding what is there already is cheap, and mends the index when keys were deleted."""
        for batch in batches(jobs):
            rows: list[str | int | float] = [value for job in batch for value in (job.id, waiting.score(job), job.due, job.tier, job.user)]
            self._add(self._names.waiting, [self._names.queue_prefix, *rows])

    def drop_waiting(self, ids: Sequence[str]) -> None:
        """See `ports.Coordinator`."""
        for batch in batches(ids):
            self._drop(self._names.waiting, [self._names.queue_prefix, *batch])

    def waiting_heads(self, limit: int, now: float, *, depth: int = 8, without: Collection[str] = ()) -> Heads:
        """See `ports.Coordinator`. Costs grow with `limit`, `depth` and `without`, not with the users or jobs that wait."""
        users, *rows = json.loads(self._heads(self._names.waiting, [self._names.queue_prefix, limit, now, BATCH, depth, *without]))
        return Heads(int(users), tuple(WaitingLine(user, tier, float(turn), size, tuple(ids)) for user, tier, turn, size, *ids in rows))

    def move_turns(self, moved: TurnsMoved) -> None:
        """See `ports.Coordinator`. Costs grow with the users in it."""
        numbers = [moved.at, TURN_GAP_S, TURN_BOUND_S, moved.pace, moved.reached, moved.before, moved.after]
        pairs = [value for given in (moved.steps, moved.shares) for pair in given.items() for value in pair]
        self._move(self._names.turns, [*numbers, secrets.token_hex(8), len(moved.steps), *pairs])

    def freed_lately(self, now: float) -> Freed:
        """See `ports.Coordinator`."""
        with self._server.answers():
            seen = self._server.commands.hgetall(self._names.turns[-1])
        return waiting.freed({str(field): float(value) for field, value in seen.items()}, now)

    def waiting_size(self) -> int:
        """See `ports.Coordinator`."""
        with self._server.answers():
            return int(self._server.commands.hlen(self._names.waiting[0]))

    def waiting_place(self, id: str, user: str) -> int | None:
        """See `ports.Coordinator`. For a job that is not due: how many of those that are would go before it."""
        place: int | None = self._place([self._names.waiting[0], self._names.queue_prefix + user], [id, user])
        return place
