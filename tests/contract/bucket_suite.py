"""What every `Coordinator` promises about token buckets. A subclass gives `make`, as in `coordinator_suite`."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.coordinator_suite import CoordinatorFixtures, Make
from tests.waiting import until
from worker.jobs.tiers import Bucket
from worker.ports import Coordinator

#: Gets no token within a test.
SLOW = Bucket("slow", 0.001, 5)
OTHER = Bucket("other", 0.001, 2)


def near(value: float) -> object:
    """The value, give or take what comes in within a test."""
    return pytest.approx(value, abs=0.2)


class BucketSuite(CoordinatorFixtures):
    def test_a_full_bucket_lets_its_burst_through_and_no_more(self, redis: Coordinator) -> None:
        waits = redis.take_tokens([[SLOW]] * 8)
        assert waits[:5] == [0] * 5
        assert all(900 < wait <= 1_000 for wait in waits[5:]), "a token comes every 1,000 s"
        assert redis.take_tokens([]) == []

    def test_every_process_takes_of_the_same_bucket(self, make: Make) -> None:
        one, other = make(), make()
        assert one.take_tokens([[SLOW]] * 3) == [0] * 3
        assert other.take_tokens([[SLOW]] * 3).count(0) == 2

    def test_of_several_buckets_all_or_none_is_taken(self, redis: Coordinator) -> None:
        assert redis.take_tokens([[SLOW, OTHER]] * 3).count(0) == 2
        assert redis.tokens([SLOW, OTHER]) == [near(3), near(0)]

    def test_asks_are_answered_in_their_order_each_by_its_own_buckets(self, redis: Coordinator) -> None:
        waits = redis.take_tokens([[OTHER], [SLOW, OTHER], [OTHER], [SLOW], []])
        assert [wait == 0 for wait in waits] == [True, True, False, True, True]

    def test_tokens_come_back_at_the_rate_of_the_bucket(self, redis: Coordinator) -> None:
        bucket, begun = Bucket("quick", 50, 1), time.monotonic()
        taken = 0
        while taken < 6:
            [wait] = redis.take_tokens([[bucket]])
            assert wait <= 0.02
            taken += wait == 0
            time.sleep(wait)  # as it was told
        assert time.monotonic() - begun >= 5 * 0.02

    def test_a_look_takes_nothing_and_a_bucket_nobody_knows_is_full(self, redis: Coordinator) -> None:
        assert [redis.tokens([SLOW]) for _ in range(3)] == [[near(5)]] * 3
        redis.take_tokens([[SLOW]] * 2)
        assert [redis.tokens([SLOW, OTHER]) for _ in range(3)] == [[near(3), near(2)]] * 3
        assert redis.tokens([]) == []

    def test_the_tokens_stay_when_the_limit_is_changed_and_never_exceed_the_new_burst(self, redis: Coordinator) -> None:
        redis.take_tokens([[Bucket("b", 0.001, 5)]] * 4)
        assert redis.tokens([Bucket("b", 0.002, 50)]) == [near(1)]
        assert redis.tokens([Bucket("b", 0.002, 0.5)]) == [near(0.5)]
        assert until(lambda: redis.take_tokens([[Bucket("b", 500, 2)]] * 2) == [0, 0])
        assert redis.take_tokens([[Bucket("b", 0.001, 2)]] * 3).count(0) <= 2

    def test_without_a_line_each_is_told_when_there_is_a_token(self, redis: Coordinator) -> None:
        bucket = Bucket("b", 1, 1)
        assert redis.take_tokens([[bucket]] * 4) == [0, near(1), near(1), near(1)]

    def test_in_a_line_one_is_told_to_come_for_each_token_and_the_others_at_its_end(self, make: Make) -> None:
        bucket = Bucket("b", 1, 1)
        assert make().take_tokens([[bucket]] * 4, line_s=4.5) == [0, near(1), near(2), near(3)]
        assert make().take_tokens([[bucket]] * 3, line_s=4.5) == [near(4), near(4.5), near(4.5)]

    def test_a_line_is_of_the_bucket_that_lacks_a_token(self, redis: Coordinator) -> None:
        fast, slow = Bucket("f", 1, 9), Bucket("s", 0.5, 1)
        assert redis.take_tokens([[fast, slow]] * 3, line_s=10) == [0, near(2), near(4)]
        assert redis.take_tokens([[fast]], line_s=10) == [0]

    def test_threads_that_take_at_once_get_what_there_is_and_no_more(self, make: Make) -> None:
        processes, ready = [make() for _ in range(3)], threading.Barrier(6)
        bucket = Bucket("b", 0.001, 40)

        def take(number: int) -> int:
            ready.wait()
            return sum(processes[number % 3].take_tokens([[bucket]]) == [0] for _ in range(20))

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(take, range(6))) == 40
