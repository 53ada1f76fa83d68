"""Coordinators on a real Redis, and all they can be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis as client

from tests.contract.bucket_suite import SLOW
from tests.contract.coordinator_suite import Make, event, moved, request, snapshot, waiting
from worker.cli.servers import Server
from worker.coordination.bounds import Bounds
from worker.coordination.keys import Keys
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Transient
from worker.jobs.model import Progress
from worker.ports import Coordinator

HASTY: dict[str, float] = {"connect_s": 0.3, "answer_s": 0.15, "block_s": 0.1, "silence_s": 0.1}


@contextmanager
def maker(url: str, prefix: str) -> Iterator[Make]:
    """Make coordinators, and close them at the end."""
    made: list[RedisCoordinator] = []

    def make(**bounds: Any) -> RedisCoordinator:
        made.append(RedisCoordinator(url, prefix=prefix, max_connections=4, bounds=Bounds(**bounds)))
        return made[-1]

    yield make
    for coordinator in made:
        coordinator.close()


def fill(redis: Coordinator) -> None:
    """Use every key there is."""
    redis.offer([request(1), request(2)])
    redis.may_nudge("intake")
    redis.remind("admit", 1e9)
    redis.wake("aria2")
    redis.claim("job", "me", 60.0)
    redis.begin("finish", ["a"])
    redis.add_waiting([waiting("a", "u"), waiting("b", "u", due=1e9)])
    redis.take_tokens([[SLOW]])
    redis.move_turns(moved(60.0, shares={"u": 1.0}))
    redis.move_turns(moved(61.0, shares={"u": 1.0}))
    redis.put_progress("aria2", {"a": Progress(1)})
    redis.put_snapshot(snapshot("aria2"))
    redis.publish([event(1)])


def every_call(redis: Coordinator) -> list[Callable[[], object]]:
    """Each call that needs an answer."""
    return [
        redis.ping,
        redis.intake_size,
        redis.parked_size,
        redis.waiting_size,
        redis.snapshots,
        lambda: redis.offer([request(1)]),
        lambda: redis.take_intake("a", 1),
        lambda: redis.ack_intake(["1-1"]),
        lambda: redis.park_intake(redis.take_intake("a", 1)),
        lambda: redis.begin("finish", ["a"]),
        lambda: redis.end("finish", ["a"]),
        lambda: redis.may_nudge("admit"),
        lambda: redis.looked("admit"),
        lambda: redis.wake("aria2"),
        lambda: redis.remind("admit", 1.0),
        lambda: redis.reminders(1.0),
        lambda: redis.claim("job", "me", 1.0),
        lambda: redis.unclaim("job", "me"),
        lambda: redis.add_waiting([waiting("a", "u")]),
        lambda: redis.drop_waiting(["a"]),
        lambda: redis.waiting_heads(1, 0.0),
        lambda: redis.move_turns(moved(1.0)),
        lambda: redis.freed_lately(1.0),
        lambda: redis.waiting_place("a", "u"),
        lambda: redis.take_tokens([[SLOW]]),
        lambda: redis.tokens([SLOW]),
        lambda: redis.put_progress("aria2", {}),
        lambda: redis.progress({"aria2": ["a"]}),
        lambda: redis.put_snapshot(snapshot("aria2")),
        lambda: redis.publish([event(1)]),
        lambda: redis.read_events(None, 1, 0.0),
        lambda: redis.read_events("0-0", 1, 1.0),
    ]


class OnRedis:
    """On a Valkey, then on a Redis; `raw` looks past the coordinator."""

    @pytest.fixture
    def make(self, any_redis: Server, key_prefix: str) -> Iterator[Make]:
        self.keys, self.raw = Keys(key_prefix), client.Redis.from_url(any_redis.url)
        with maker(any_redis.url, key_prefix) as make:
            yield make
        self.raw.close()


def recovered(redis: Coordinator) -> bool:
    try:
        redis.ping()
    except Transient:
        return False
    return True
