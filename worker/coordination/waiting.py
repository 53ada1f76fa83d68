"""The order of the waiting index, and the index in memory. The scripts `lua/waiting_*.lua` do the same in Redis.

Each user has a queue and a turn. The turn is a clock: it runs by the slots the user has over the weight, so that who is
furthest behind is due most (`worker.admission.turns` makes the order of it). A newcomer begins a second behind the present
turn, after those who wait already: to be idle earns nothing, to come back costs nothing. A job that is not due is in no queue yet.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Mapping

from worker.jobs.requests import PRIORITY_MAX
from worker.limits import TURN_BOUND_S, TURN_GAP_S
from worker.ports import Freed, Heads, TurnsMoved, WaitingJob, WaitingLine

#: Milliseconds since the epoch fit in 42 bits until the year 2109. With the priority above them a score is a
#: whole number that a double, which is what a sorted set keeps, still holds exactly.
SINCE_BITS = 42
#: A newcomer begins so far behind the present turn.
NEWCOMER_S = 1.0
FREED_MINUTES = 10

assert (PRIORITY_MAX + 1) << SINCE_BITS <= 1 << 53, "scores are exact"


def score(job: WaitingJob) -> int:
    """The sort key in a user's queue, smaller first: by priority from the largest, then by `since` in milliseconds.

    Jobs with the same score follow by id.
    """
    priority = min(max(job.priority, 0), PRIORITY_MAX)
    since_ms = min(max(round(job.since * 1_000), 0), (1 << SINCE_BITS) - 1)
    return since_ms - (priority << SINCE_BITS)


def freed(seen: Mapping[str, float], now: float) -> Freed:
    """The sum of the last minutes, of which `<minute>` is the number of slots and `<minute> s` the seconds seen."""
    minute = int(now // 60)
    recent = [str(number) for number in range(minute - FREED_MINUTES, minute + 1)]
    return Freed(round(sum(seen.get(name, 0) for name in recent)), sum(seen.get(f"{name} s", 0.0) for name in recent))


class WaitingIndex:
    """The index of one process."""

    def __init__(self) -> None:
        self._jobs: dict[str, WaitingJob] = {}
        self._ready: dict[str, list[tuple[int, str]]] = {}  # of each user, sorted
        self._later: set[str] = set()
        self._turns: dict[str, float] = {}
        self._shares: Mapping[str, float] = {}
        self._at: float | None = None
        self._turn, self._pace, self._live = 0.0, 0.0, 0
        self.freed: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: WaitingJob) -> None:
        """Put a job in, or move it to its new place."""
        known = self._jobs.get(job.id)
        if known == job:
            return
        turn = self._turns.get(job.user)
        self.drop(job.id)
        self._jobs[job.id] = job
        if job.due > 0:
            self._later.add(job.id)
        else:
            self._join(job)
            if turn is not None:
                self._turns[job.user] = turn

    def drop(self, id: str) -> None:
        """Take a job out."""
        job = self._jobs.pop(id, None)
        self._later.discard(id)
        queue = self._ready.get(job.user) if job else None
        if job is None or queue is None:
            return
        place = bisect_left(queue, (score(job), id))
        if queue[place : place + 1] == [(score(job), id)]:
            del queue[place]
        if not queue:
            del self._ready[job.user], self._turns[job.user]

    def heads(self, limit: int, now: float, depth: int, without: Collection[str]) -> Heads:
        """See `ports.Coordinator.waiting_heads`."""
        for id in [id for id in self._later if self._jobs[id].due <= now]:
            self._later.discard(id)
            self._join(self._jobs[id])
        passed = frozenset(without)
        order = sorted((turn, user) for user, turn in self._turns.items() if user not in passed)[:limit]
        if depth > 0 and order:
            depth = max(depth, limit // len(order))
        lines = []
        for turn, user in order:
            queue = self._ready[user]
            tier = self._jobs[queue[0][1]].tier
            lines.append(WaitingLine(user, tier, turn, len(queue), tuple(id for _, id in queue[:depth])))
        return Heads(len(self._turns), tuple(lines))

    def move(self, moved: TurnsMoved) -> None:
        """See `ports.Coordinator.move_turns`."""
        passed = moved.at - (moved.at if self._at is None else self._at)
        watched = self._at is not None and 0 <= passed <= TURN_GAP_S
        passed = min(max(passed, 0.0), TURN_GAP_S)
        now = max(self._turn + self._pace * passed, moved.reached)
        for user, share in self._shares.items():
            if user in self._turns:
                turn = max(self._turns[user], self._turn - TURN_BOUND_S) + share * passed
                self._turns[user] = min(turn, now + TURN_BOUND_S)
        for user, step in moved.steps.items():
            if user in self._turns:
                self._turns[user] += step
        if watched:
            minute = str(int(moved.at // 60))
            self.freed[minute] = self.freed.get(minute, 0) + max(0, self._live - moved.before)
            self.freed[f"{minute} s"] = self.freed.get(f"{minute} s", 0.0) + passed
        self._shares, self._at, self._turn = dict(moved.shares), moved.at, now
        self._pace, self._live = moved.pace, moved.after

    def place(self, id: str, user: str) -> int | None:
        """How many of the user's jobs that are due go before it."""
        job = self._jobs.get(id)
        if job is None or job.user != user:
            return None
        queue = self._ready.get(user, [])
        return bisect_left(queue, (score(job), "" if id in self._later else id))

    def _join(self, job: WaitingJob) -> None:
        insort(self._ready.setdefault(job.user, []), (score(job), job.id))
        self._turns.setdefault(job.user, self._turn + NEWCOMER_S)
