"""Connections: answers that are lost on them, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis as client

from tests.contract.coordinator_suite import ids_of, request, waiting
from tests.contract.redis.coordinators import maker
from tests.contract.redis.cutter import Cutter
from worker.cli.servers import Server
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Transient
from worker.jobs.model import Progress


@pytest.fixture
def cutter(own: Server) -> Iterator[Cutter]:
    cutter = Cutter(urlsplit(own.url).port or 0)
    yield cutter
    cutter.close()


def test_a_call_whose_answer_is_lost_is_made_again_and_gives_the_same_answer(own: Server, cutter: Cutter) -> None:
    with maker(own.url.replace(f":{urlsplit(own.url).port}/", f":{cutter.port}/"), "own") as make:
        redis = make()
        redis.take_intake("a", 1)
        redis.claim("warm", "me", 60.0)  # the scripts are known

        def lost(call: Callable[[], Any]) -> Any:
            redis.ping()
            cutter.cut()
            return call()

        assert lost(lambda: redis.may_nudge("admit")) is True
        assert redis.may_nudge("admit") is False
        assert lost(lambda: redis.claim("job", "me", 60.0)) is True
        redis.offer([request(1)])
        lost(lambda: redis.offer([request(2)]))
        redis.offer([request(3)])
        assert [entry.body for entry in redis.take_intake("a", 10)] == [request(n) for n in (1, 2, 2, 3)]
        lost(lambda: redis.add_waiting([waiting("a", "u")]))
        lost(lambda: redis.put_progress("aria2", {"a": Progress(1)}))
        assert (ids_of(redis, 5, 0.0), redis.progress({"aria2": ["a"]})) == (["a"], {"a": Progress(1)})
        lost(lambda: redis.wake("aria2"))
        assert [redis.rest("aria2", 0.05), redis.rest("aria2", 0.05)] == [True, False]
        cutter.cut()
        cutter.cut()
        with pytest.raises(Transient):
            redis.ping()
        redis.ping()


def test_more_threads_than_connections_wait_for_their_turn(own: Server) -> None:
    redis = RedisCoordinator(own.url, prefix="own", max_connections=1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(redis.offer, ([request(n)] for n in range(200))))
        assert list(pool.map(redis.rest, ["aria2"] * 8, [0.05] * 8)) == [False] * 8
    assert redis.intake_size() == 200
    admin = client.Redis.from_url(own.url)
    assert len([row for row in admin.client_list() if row["name"] == "haul"]) == 2
    admin.close()
    redis.close()
