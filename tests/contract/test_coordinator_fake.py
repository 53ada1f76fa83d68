"""The coordinator in memory keeps the promises of the real one."""

from __future__ import annotations

import time

import pytest

from tests.contract.bucket_suite import BucketSuite
from tests.contract.coordinator_contract import CoordinatorSuite
from tests.contract.coordinator_suite import Make, event, request, waiting
from worker.coordination.bounds import Bounds
from worker.coordination.fake import FakeCoordinator, Memory
from worker.jobs.errors import Transient
from worker.limits import RECLAIM_S
from worker.ports import Coordinator, StreamReset


class InMemory:
    @pytest.fixture
    def make(self) -> Make:
        memory = Memory()
        return lambda **bounds: FakeCoordinator(memory=memory, bounds=Bounds(**bounds))


class TestFakeCoordinator(InMemory, CoordinatorSuite):
    def write_text(self, coordinator: Coordinator, text: bytes) -> None:
        assert isinstance(coordinator, FakeCoordinator)
        coordinator.offer_text(text.decode(errors="surrogateescape"))


class TestFakeBuckets(InMemory, BucketSuite):
    """Tokens, too."""


def test_it_runs_on_an_injected_clock() -> None:
    now = 1_000.0
    redis = FakeCoordinator(clock=lambda: now)
    assert redis.may_nudge("admit")
    assert redis.claim("x", "a", 60.0)
    redis.offer([request(1)])
    assert redis.take_intake("a", 10)
    now += RECLAIM_S - 0.1
    assert redis.may_nudge("admit")
    assert not redis.claim("x", "b", 60.0)
    assert not redis.take_intake("a", 10)
    now += 61.0 - RECLAIM_S
    assert redis.claim("x", "b", 60.0)
    assert redis.take_intake("a", 10)


def test_while_it_is_down_every_call_fails_and_rest_just_waits() -> None:
    redis = FakeCoordinator()
    redis.down = True
    for call in (
        redis.ping,
        redis.waiting_size,
        redis.intake_size,
        redis.snapshots,
        lambda: redis.may_nudge("x"),
        lambda: redis.publish([]),
    ):
        with pytest.raises(Transient):
            call()
    start = time.monotonic()
    assert redis.rest("aria2", 0.05) is False
    assert time.monotonic() - start >= 0.05


def test_it_can_lose_everything() -> None:
    redis = FakeCoordinator()
    redis.offer([request(1)])
    redis.add_waiting([waiting("a", "u")])
    redis.publish([event(1)])
    _, place = redis.read_events(None, 10, 0.0)
    redis.flush()
    assert (redis.intake_size(), redis.waiting_size()) == (0, 0)
    with pytest.raises(StreamReset):
        redis.read_events(place, 10, 0.0)
