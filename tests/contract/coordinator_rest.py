"""When it is done: rests, what ends them, and reminders."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.contract.coordinator_suite import DEADLINE_S, CoordinatorFixtures, Make, request
from worker.ports import SWEEPER, Coordinator


class RestSuite(CoordinatorFixtures):
    def test_offers_wake_one_sweeper_once(self, make: Make) -> None:
        a, b = make(), make()
        a.offer([request(1)])
        a.offer([request(2)])
        assert b.rest(SWEEPER, 5.0) is True
        assert b.rest(SWEEPER, 0.01) is False

    def test_a_wake_ends_the_rest_of_its_engine_in_another_process(self, make: Make) -> None:
        owner, other = make(), make()
        begun = threading.Event()

        def rest() -> tuple[bool, float]:
            start = time.monotonic()
            begun.set()
            return owner.rest("aria2", 10.0), time.monotonic() - start

        with ThreadPoolExecutor(1) as pool:
            resting = pool.submit(rest)
            begun.wait(DEADLINE_S)
            other.wake("qbittorrent")
            other.wake("aria2")
            woken, took = resting.result(DEADLINE_S)
        assert woken is True
        assert took < 9.0, "before it would have ended anyway"

    def test_wakes_before_a_rest_end_the_next_one_only(self, redis: Coordinator) -> None:
        redis.wake("aria2")
        redis.wake("aria2")
        assert redis.rest("aria2", 1.0) is True
        assert redis.rest("aria2", 0.05) is False

    def test_a_rest_ends_by_itself(self, redis: Coordinator) -> None:
        start = time.monotonic()
        assert redis.rest("aria2", 0.2) is False
        assert 0.19 <= time.monotonic() - start < 20.0
        assert redis.rest("aria2", 0.0) is False

    def test_a_step_is_reminded_of_once_its_time_has_come_and_only_once(self, make: Make) -> None:
        one, other = make(), make()
        assert one.reminders(1e9) == ([], None)
        one.remind("admit", 20.5)
        one.remind("admit", 10.5)
        one.remind("admit", 30.5)
        one.remind("finish", 15.0)
        assert other.reminders(10.0) == ([], 10.5)
        assert other.reminders(10.5) == (["admit"], 15.0)
        assert one.reminders(99.0) == (["finish"], None)
        assert one.reminders(99.0) == ([], None)
