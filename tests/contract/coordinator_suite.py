"""What the suites of every `Coordinator` stand on. A subclass gives `make`, which connects one more process to the same Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import pytest

from worker.ports import Coordinator, EngineSnapshot, TurnsMoved, WaitingJob

DEADLINE_S = 5.0
Make = Callable[..., Coordinator]


def request(number: int) -> dict[str, Any]:
    return {"kind": "request", "id": f"{number:024d}", "spec": {"uri": f"https://host/{number}", "user": "ü\ud800"}}


def waiting(id: str, user: str, priority: int = 0, since: float = 1_700_000_000.0, due: float = 0.0, tier: str = "free") -> WaitingJob:
    return WaitingJob(id, user, priority, since, due, tier)


def ids_of(redis: Coordinator, limit: int, now: float) -> list[str]:
    """The first of each user in turn, then the second of each, …"""
    rounds = zip_longest(*(line.ids for line in redis.waiting_heads(limit, now, depth=limit).lines))
    return [id for heads in rounds for id in heads if id is not None][:limit]


def users_of(redis: Coordinator, limit: int = 10, **asked: Any) -> list[str]:
    return [line.user for line in redis.waiting_heads(limit, 0.0, **asked).lines]


def moved(at: float, **changes: Any) -> TurnsMoved:
    values: dict[str, Any] = {"steps": {}, "shares": {}, "pace": 0.0, "reached": 0.0, "before": 0, "after": 0}
    return TurnsMoved(at, **{**values, **changes})


def snapshot(name: str, **changes: Any) -> EngineSnapshot:
    values = {"slots": 5, "kinds": ("http", "ftp"), "directory": "/d", "free_bytes": None, "speed": 7, "items": 1, "ahead": 0, "at": 1.5}
    return EngineSnapshot(**{"name": name, "owner": "o", **values, **changes})


def event(number: int) -> dict[str, Any]:
    return {"id": f"job:{number}", "type": "job.queued", "job": "job", "user": "ü", "key": None, "at": 1.5}


class CoordinatorFixtures:
    """The coordinator under test; `make` comes from the implementation."""

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        raise NotImplementedError

    @pytest.fixture
    def redis(self, make: Make) -> Coordinator:
        return make()

    def write_text(self, coordinator: Coordinator, text: bytes) -> None:
        """Put a message in the intake as a stranger may have written it."""
        raise NotImplementedError
