"""Who does what: nudges, work that was begun, claims."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.contract.coordinator_suite import CoordinatorFixtures, Make
from tests.waiting import until
from worker.ports import Coordinator


class WorkSuite(CoordinatorFixtures):
    def test_eight_threads_nudge_and_exactly_one_may(self, make: Make) -> None:
        callers = [make() for _ in range(8)]
        barrier = threading.Barrier(8)

        def nudge(redis: Coordinator) -> bool:
            barrier.wait()
            return redis.may_nudge("admit")

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(nudge, callers)) == [False] * 7 + [True]

    def test_a_nudge_that_was_lost_is_sent_again_after_its_time(self, make: Make) -> None:
        redis = make(nudge_s=0.05)
        assert redis.may_nudge("start")
        assert redis.may_nudge("finish"), "steps do not share a flag"
        until(lambda: redis.may_nudge("start"))

    def test_what_was_begun_and_never_ended_is_told_to_whoever_begins_it_next(self, make: Make) -> None:
        dead, alive = make(), make()
        assert dead.begin("finish", ["a", "b", "c"]) == {}
        dead.end("finish", ["b", "none"])
        assert alive.begin("start", ["a"]) == {}, "each step counts for itself"
        assert alive.begin("finish", ["a", "b", "d"]) == {"a": 1}
        assert alive.begin("finish", []) == {}
        alive.end("finish", [])

    def test_what_was_begun_before_counts_once_more_only_when_it_is_begun_again(self, redis: Coordinator) -> None:
        assert redis.begin("finish", ["a"]) == {}
        assert [redis.begin("finish", ["a", "b"])["a"] for _ in range(3)] == [1, 1, 1]
        assert [redis.begin("finish", ["a"], again=True)["a"] for _ in range(3)] == [1, 2, 3]
        redis.end("finish", ["a"])
        redis.end("finish", ["a"])
        assert redis.begin("finish", ["a", "b"]) == {"b": 1}

    def test_what_was_begun_is_forgotten_after_its_time(self, make: Make) -> None:
        redis = make(begun_s=1.0)
        redis.begin("finish", ["a"])
        until(lambda: redis.begin("finish", ["a"]) == {})

    def test_a_claim_is_for_one_and_only_its_holder_gives_it_back(self, make: Make) -> None:
        a, b = make(), make()
        assert a.claim("job", "a", 60.0) is True
        assert b.claim("job", "b", 60.0) is False
        assert b.claim("other", "b", 60.0) is True
        b.unclaim("job", "b")
        assert b.claim("job", "b", 60.0) is False
        a.unclaim("job", "a")
        a.unclaim("job", "a")
        assert b.claim("job", "b", 60.0) is True

    def test_a_holder_extends_its_claim_by_claiming_again(self, redis: Coordinator) -> None:
        assert redis.claim("job", "a", 0.2)
        assert redis.claim("job", "a", 60.0)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert redis.claim("job", "b", 60.0) is False
            time.sleep(0.01)

    def test_a_claim_that_ran_out_is_not_taken_from_its_next_holder(self, redis: Coordinator) -> None:
        assert redis.claim("job", "a", 0.05)
        until(lambda: redis.claim("job", "b", 60.0))
        redis.unclaim("job", "a")
        assert redis.claim("job", "a", 60.0) is False
