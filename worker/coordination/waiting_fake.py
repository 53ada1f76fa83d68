"""The waiting index of the coordinator in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from worker.coordination.memory import Memory
from worker.coordination.waiting import freed
from worker.ports import Freed, Heads, TurnsMoved, WaitingJob


class FakeWaiting:
    """That part of `ports.Coordinator`; `opened` gives the memory to one caller at a time, or raises Transient."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Memory]]) -> None:
        self._open = opened

    def add_waiting(self, jobs: Sequence[WaitingJob]) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            for job in jobs:
                memory.waiting.add(job)

    def drop_waiting(self, ids: Sequence[str]) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            for id in ids:
                memory.waiting.drop(id)

    def waiting_heads(self, limit: int, now: float, *, depth: int = 8, without: Collection[str] = ()) -> Heads:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            return memory.waiting.heads(limit, now, depth, without)

    def move_turns(self, moved: TurnsMoved) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            memory.waiting.move(moved)

    def freed_lately(self, now: float) -> Freed:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            return freed(memory.waiting.freed, now)

    def waiting_size(self) -> int:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            return len(memory.waiting)

    def waiting_place(self, id: str, user: str) -> int | None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            return memory.waiting.place(id, user)
