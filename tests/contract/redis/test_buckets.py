"""Token buckets on a real Valkey and a real Redis."""

from __future__ import annotations

import struct
import time
from math import inf, nan

import pytest

from tests.contract.bucket_suite import SLOW, BucketSuite
from tests.contract.redis.coordinators import OnRedis
from tests.waiting import until
from worker.coordination.redis import RedisCoordinator
from worker.jobs.tiers import Bucket


def level(tokens: float, at_us: float, line_us: float, kept_ms: float = 60_000) -> bytes:
    """What is kept of a bucket."""
    return struct.pack("<dddd", tokens, at_us, line_us, kept_ms)


class TestRedisBuckets(OnRedis, BucketSuite):
    def test_a_bucket_is_kept_until_it_is_full_again(self, redis: RedisCoordinator) -> None:
        def kept_ms() -> int:
            redis.take_tokens([[Bucket("b", 100, 50)]] * 10)
            return max(0, self.raw.pttl(self.keys.bucket("b")))

        assert until(kept_ms) <= 500, "on a slow machine it is over before it is seen, and begins again"
        until(lambda: not self.raw.exists(self.keys.bucket("b")))
        redis.take_tokens([[Bucket("b", 1, 5)]] * 15, line_s=60.0)
        assert self.raw.pttl(self.keys.bucket("b")) > 5_000, "the line is longer"

    @pytest.mark.parametrize("line_s", [0.0, 20.0])
    def test_one_who_is_refused_by_a_lowered_limit_is_not_let_through_when_the_old_limit_would_have_filled_it(
        self, redis: RedisCoordinator, line_s: float
    ) -> None:
        fast, slow = Bucket("b", 5, 50), Bucket("b", 0.01, 50)
        while redis.take_tokens([[fast]]) == [0]:
            pass
        [wait] = redis.take_tokens([[slow]], line_s=line_s)
        assert wait > 1
        assert self.raw.pttl(self.keys.bucket("b")) > 1_000_000

    def test_a_look_by_a_lowered_limit_keeps_what_it_saw(self, redis: RedisCoordinator) -> None:
        redis.take_tokens([[Bucket("b", 5, 50)]] * 50)
        [seen] = redis.tokens([Bucket("b", 0.01, 50)])
        assert seen < 50
        assert self.raw.pttl(self.keys.bucket("b")) > 1_000_000

    @pytest.mark.parametrize("value", [b"", b"x", b"1 2 3", b"\xff" * 32, level(1e300, 0, 0), level(nan, nan, nan), level(inf, -inf, inf)])
    def test_what_a_stranger_wrote_there_lets_at_most_a_burst_through(self, redis: RedisCoordinator, value: bytes) -> None:
        self.raw.set(self.keys.bucket("slow"), value)
        assert redis.take_tokens([[SLOW]] * 10).count(0) <= SLOW.burst
        assert redis.take_tokens([[SLOW]]) != [0]

    def test_after_the_server_s_clock_was_set_back_tokens_come_as_before_and_nobody_is_sent_far_away(self, redis: RedisCoordinator) -> None:
        later = (int(time.time()) + 3_600) * 1_000_000
        self.raw.set(self.keys.bucket("b"), level(0.5, later, later + 5_000_000))
        [wait] = redis.take_tokens([[Bucket("b", 2, 5)]], line_s=20.0)
        assert 0 < wait <= 1
        assert until(lambda: redis.take_tokens([[Bucket("b", 2, 5)]]) == [0])
