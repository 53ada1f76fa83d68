"""The waiting index of the coordinator in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from worker.coordination.waiting import WaitingIndex, freed
from worker.ports import Freed, Heads, TurnsMoved, WaitingJob


class FakeWaiting(ABC):
    """That part of `ports.Coordinator`."""

    @abstractmethod
    def _index(self) -> AbstractContextManager[WaitingIndex]:
        """The index, for one caller at a time. Raises Transient while the fake is down."""

    def add_waiting(self, jobs: Sequence[WaitingJob]) -> None:
        """See `ports.Coordinator`."""
        with self._index() as index:
            for job in jobs:
                index.add(job)

    def drop_waiting(self, ids: Sequence[str]) -> None:
        """See `ports.Coordinator`."""
        with self._index() as index:
            for id in ids:
                index.drop(id)

    def waiting_heads(self, limit: int, now: float, *, depth: int = 8, without: Collection[str] = ()) -> Heads:
        """See `ports.Coordinator`."""
        with self._index() as index:
            return index.heads(limit, now, depth, without)

    def move_turns(self, moved: TurnsMoved) -> None:
        """See `ports.Coordinator`."""
        with self._index() as index:
            index.move(moved)

    def freed_lately(self, now: float) -> Freed:
        """See `ports.Coordinator`."""
        with self._index() as index:
            return freed(index.freed, now)

    def waiting_size(self) -> int:
        """See `ports.Coordinator`."""
        with self._index() as index:
            return len(index)

    def waiting_place(self, id: str, user: str) -> int | None:
        """See `ports.Coordinator`."""
        with self._index() as index:
            return index.place(id, user)
