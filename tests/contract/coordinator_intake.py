"""Messages of the intake: taken once, acknowledged, parked, bounded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.coordinator_suite import CoordinatorFixtures, Make, request
from tests.waiting import until
from worker.coordination.bounds import BODY_BYTES_MAX
from worker.jobs.errors import Rejected
from worker.ports import Coordinator


class IntakeSuite(CoordinatorFixtures):
    def test_an_offered_message_is_taken_once_and_gone_when_acknowledged(self, redis: Coordinator) -> None:
        redis.offer([request(1), request(2)])
        taken = redis.take_intake("a", 10)
        assert [entry.body for entry in taken] == [request(1), request(2)]
        assert redis.take_intake("b", 10) == []
        assert redis.intake_size() == 2
        redis.ack_intake([entry.id for entry in taken])
        redis.ack_intake([entry.id for entry in taken])
        assert redis.intake_size() == 0

    def test_take_gives_no_more_than_asked_and_in_order(self, redis: Coordinator) -> None:
        redis.offer([request(n) for n in range(5)])
        first, rest = redis.take_intake("a", 2), redis.take_intake("a", 10)
        assert [entry.body for entry in first + rest] == [request(n) for n in range(5)]
        assert len(first) == 2

    def test_an_empty_intake_answers_at_once(self, redis: Coordinator) -> None:
        assert redis.take_intake("a", 10) == []
        assert redis.intake_size() == 0
        redis.offer([])
        redis.ack_intake([])
        redis.park_intake([])

    def test_messages_of_a_dead_consumer_come_back_and_new_ones_with_them(self, make: Make) -> None:
        redis, hasty = make(), make(reclaim_s=0.05)
        redis.offer([request(n) for n in range(5)])
        assert len(redis.take_intake("dead", 10)) == 5
        redis.offer([request(5)])
        assert [entry.body for entry in redis.take_intake("alive", 10)] == [request(5)]
        back = until(lambda: hasty.take_intake("alive", 10))
        assert [entry.body for entry in back][:5] == [request(n) for n in range(5)]

    def test_four_consumers_share_a_thousand_messages_each_delivered_once(self, make: Make) -> None:
        make().offer([request(n) for n in range(1_000)])

        def consume(name: str) -> list[str]:
            redis, ids = make(), []
            while taken := redis.take_intake(name, 37):
                ids += [str((entry.body or {})["id"]) for entry in taken]
                redis.ack_intake([entry.id for entry in taken])
            return ids

        with ThreadPoolExecutor(4) as pool:
            ids = [id for part in pool.map(consume, "abcd") for id in part]
        assert sorted(ids) == [request(n)["id"] for n in range(1_000)]

    @pytest.mark.parametrize(
        "text", [b"{not json", b"[1,2]", b"", b'{"a": "\xff"}', b"[" * 50_000], ids=["cut", "list", "none", "bytes", "deep"]
    )
    def test_a_message_nobody_can_decode_has_no_body_and_can_be_parked(self, redis: Coordinator, text: bytes) -> None:
        self.write_text(redis, text)
        redis.offer([request(1)])
        taken = redis.take_intake("a", 10)
        assert [entry.body for entry in taken] == [None, request(1)]
        redis.park_intake(taken[:1])
        redis.park_intake(taken[:1])
        redis.ack_intake([taken[1].id])
        assert (redis.intake_size(), redis.parked_size()) == (0, 1)

    def test_a_message_that_is_too_long_or_no_json_is_refused_and_none_of_its_batch_kept(self, redis: Coordinator) -> None:
        for wrong in ({"spec": "x" * BODY_BYTES_MAX}, {"spec": object()}, {"spec": float("nan")}):
            with pytest.raises(Rejected) as refusal:
                redis.offer([request(1), wrong])
            assert refusal.value.field == "spec"
            assert refusal.value.retry_after_s is None
        assert redis.intake_size() == 0

    def test_a_full_intake_refuses_and_says_when_to_come_back(self, make: Make) -> None:
        redis = make(intake_max=3)
        redis.offer([request(n) for n in range(3)])
        with pytest.raises(Rejected, match="too many unread requests") as refusal:
            redis.offer([request(4)])
        assert refusal.value.retry_after_s == 5
        redis.ack_intake([entry.id for entry in redis.take_intake("a", 1)])
        redis.offer([request(4)])
        assert redis.intake_size() == 3
