"""The order of the waiting index, and the index in memory. The scripts `lua/waiting_*.lua` do the same in Redis.

Each user has a queue. Users take turns: who joins stands last, and who had a job taken out goes back to the end, so that
with k users waiting each gets every k-th turn, however many jobs one of them has. A job that is not due is in no queue yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from worker.jobs.requests import PRIORITY_MAX
from worker.ports import WaitingJob

#: Milliseconds since the epoch fit in 42 bits until the year 2109. With the priority above them a score is a
#: whole number that a double, which is what a sorted set keeps, still holds exactly.
SINCE_BITS = 42

assert (PRIORITY_MAX + 1) << SINCE_BITS <= 1 << 53, "scores are exact"


def score(job: WaitingJob) -> int:
    """The sort key in a user's queue, smaller first: by priority from the largest, then by `since` in milliseconds.

    Jobs with the same score follow by id.
    """
    priority = min(max(job.priority, 0), PRIORITY_MAX)
    since_ms = min(max(round(job.since * 1_000), 0), (1 << SINCE_BITS) - 1)
    return since_ms - (priority << SINCE_BITS)


class WaitingIndex:
    """The index of one process."""

    def __init__(self) -> None:
        self._jobs: dict[str, WaitingJob] = {}
        self._ready: dict[str, set[str]] = {}  # by user, in turn
        self._later: set[str] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: WaitingJob) -> None:
        """Put a job in, or move it to its new place."""
        if self._jobs.get(job.id) == job:
            return
        self._remove(job.id)
        self._jobs[job.id] = job
        if job.due > 0:
            self._later.add(job.id)
        else:
            self._ready.setdefault(job.user, set()).add(job.id)

    def drop(self, id: str) -> None:
        """Take a job out; its user goes to the end of the turn."""
        user = self._remove(id)
        if user in self._ready:
            self._ready[user] = self._ready.pop(user)

    def heads(self, limit: int, now: float) -> list[str]:
        """The first of each user in turn, then the second of each, …"""
        for id in sorted((id for id in self._later if self._jobs[id].due <= now), key=lambda id: (self._jobs[id].due, id)):
            self._later.discard(id)
            self._ready.setdefault(self._jobs[id].user, set()).add(id)
        rounds = zip_longest(*(self._sorted(ids) for ids in self._ready.values()))
        return [id for heads in rounds for id in heads if id is not None][:limit]

    def place(self, id: str, user: str) -> int | None:
        """How many of the user's jobs that are due go before it."""
        job = self._jobs.get(id)
        if job is None or job.user != user:
            return None
        if id in self._later:
            return sum(score(self._jobs[other]) < score(job) for other in self._ready.get(user, ()))
        return self._sorted(self._ready[user]).index(id)

    def _sorted(self, ids: Iterable[str]) -> list[str]:
        return sorted(ids, key=lambda id: (score(self._jobs[id]), id))

    def _remove(self, id: str) -> str | None:
        job = self._jobs.pop(id, None)
        self._later.discard(id)
        if job is None or id not in self._ready.get(job.user, ()):
            return None
        self._ready[job.user].discard(id)
        if not self._ready[job.user]:
            del self._ready[job.user]
        return job.user
