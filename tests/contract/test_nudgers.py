"""One suite for every way to nudge, on Valkey and Redis: it reaches a step, it is not repeated, and it never raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from worker.cli.servers import Server
from worker.coordination.bounds import Bounds
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Transient
from worker.metrics import Metrics
from worker.ports import SWEEPER, Nudger, Step
from worker.wiring import TaskNudger, WakeNudger

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def redis(any_redis: Server, key_prefix: str) -> Iterator[RedisCoordinator]:
    coordinator = RedisCoordinator(any_redis.url, prefix=key_prefix)
    yield coordinator
    coordinator.close()


class Sent(list[str]):
    """The messages that were sent; `away` makes sending fail."""

    away = False

    def __call__(self, name: str) -> None:
        if self.away:
            raise Transient("redis", "the broker is away")
        self.append(name)


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture(params=["task", "wake"])
def make(request: pytest.FixtureRequest, sent: Sent) -> Callable[[RedisCoordinator], Nudger]:
    return lambda redis: TaskNudger(redis, sent, Metrics()) if request.param == "task" else WakeNudger(redis, Metrics())


def arrived(redis: RedisCoordinator, sent: Sent) -> int:
    """How often a step, or the sweeper that stands for it, was told to look."""
    return len(sent) + int(redis.rest(SWEEPER, 0.01))


def test_a_nudge_arrives_once_until_somebody_looks(redis: RedisCoordinator, sent: Sent, make: Callable[..., Nudger]) -> None:
    nudger = make(redis)
    for _ in range(3):
        nudger.nudge(Step.ADMIT)
    assert arrived(redis, sent) == 1


def test_a_nudge_after_the_look_arrives_again(redis: RedisCoordinator, sent: Sent, make: Callable[..., Nudger]) -> None:
    nudger = make(redis)
    nudger.nudge(Step.ADMIT)
    assert arrived(redis, sent) == 1
    sent.clear()
    redis.looked(Step.ADMIT)
    nudger.nudge(Step.ADMIT)
    assert arrived(redis, sent) == 1


def test_a_nudge_never_raises_when_redis_is_away(make: Callable[..., Nudger]) -> None:
    away = RedisCoordinator(NOWHERE, bounds=Bounds(connect_s=0.2, answer_s=0.2))
    make(away).nudge(Step.ADMIT)
    away.close()


def test_a_message_that_is_not_sent_is_counted_as_lost(redis: RedisCoordinator, sent: Sent) -> None:
    sent.away, metrics = True, Metrics()
    TaskNudger(redis, sent, metrics).nudge(Step.FINISH)
    assert metrics.registry.get_sample_value("haul_nudges_total", {"step": "finish", "outcome": "lost"}) == 1
