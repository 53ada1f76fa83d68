"""One suite for every way to tell the outside: in order, as it is, and a fault is said so that it is told again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.cli.servers import Server
from worker.coordination.bounds import Bounds
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Transient
from worker.notify.stream import StreamNotifier
from worker.ports import Notifier


def event(number: int) -> dict[str, object]:
    return {"id": f"job:{number}", "type": "job.queued", "job": "job", "user": "ann", "key": None, "at": float(number), "text": "ü"}


@pytest.fixture
def redis(any_redis: Server, key_prefix: str) -> Iterator[RedisCoordinator]:
    coordinator = RedisCoordinator(any_redis.url, prefix=key_prefix)
    yield coordinator
    coordinator.close()


@pytest.fixture
def notifier(redis: RedisCoordinator) -> Notifier:
    return StreamNotifier(redis)


def test_events_arrive_in_their_order_and_unchanged(redis: RedisCoordinator, notifier: Notifier) -> None:
    notifier.deliver([event(1), event(2)])
    notifier.deliver([event(3)])
    told, _ = redis.read_events("0-0", 10, 0)
    assert [{**one} for one in told] == [event(1), event(2), event(3)]


def test_nothing_to_tell_is_told_as_nothing(redis: RedisCoordinator, notifier: Notifier) -> None:
    notifier.deliver([])
    assert redis.read_events("0-0", 10, 0)[0] == []


def test_what_could_not_be_told_is_a_passing_fault() -> None:
    away = RedisCoordinator("redis://127.0.0.1:1/0", bounds=Bounds(connect_s=0.2, answer_s=0.2))
    with pytest.raises(Transient):
        StreamNotifier(away).deliver([event(1)])
    away.close()
