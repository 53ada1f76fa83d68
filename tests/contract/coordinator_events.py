"""The stream of events, and places in it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.coordinator_suite import DEADLINE_S, CoordinatorFixtures, Make, event
from worker.coordination.places import TELLING_S, order
from worker.jobs.errors import Rejected
from worker.ports import Coordinator, StreamReset


class EventSuite(CoordinatorFixtures):
    def test_events_are_read_in_order_from_a_place(self, redis: Coordinator) -> None:
        nothing, start = redis.read_events(None, 10, 0.0)
        assert nothing == []
        redis.publish([event(n) for n in range(5)])
        first, place = redis.read_events(start, 3, 0.0)
        rest, end = redis.read_events(place, 3, 0.0)
        assert first + rest == [event(n) for n in range(5)]
        assert redis.read_events(end, 3, 0.0) == ([], end)

    def test_a_reader_without_a_place_begins_now(self, redis: Coordinator) -> None:
        redis.publish([event(1)])
        nothing, place = redis.read_events(None, 10, 0.0)
        assert nothing == []
        redis.publish([event(2)])
        assert redis.read_events(place, 10, 0.0)[0] == [event(2)]

    @pytest.mark.parametrize("before", [[], [event(1)]], ids=["empty", "used"])
    def test_a_waiting_reader_is_told_at_once(self, make: Make, before: list[dict[str, Any]]) -> None:
        reader, writer = make(), make()
        writer.publish(before)
        _, place = reader.read_events(None, 10, 0.0)
        with ThreadPoolExecutor(1) as pool:
            start = time.monotonic()
            reading = pool.submit(reader.read_events, place, 10, 10.0)
            writer.publish([event(2)])
            events, _ = reading.result(DEADLINE_S)
        assert events == [event(2)]
        assert time.monotonic() - start < 9.0, "before it would have ended anyway"

    def test_a_reader_waits_no_longer_than_asked(self, redis: Coordinator) -> None:
        start = time.monotonic()
        assert redis.read_events(None, 10, 0.2)[0] == []
        assert 0.19 <= time.monotonic() - start < 20.0

    def test_a_reader_whose_place_was_trimmed_is_told_when_to_list_from(self, make: Make) -> None:
        redis = make(events_max=100)
        _, nothing_yet = redis.read_events(None, 10, 0.0)
        redis.publish([event(1)])
        _, place = redis.read_events(nothing_yet, 10, 0.0)
        redis.publish([event(n) for n in range(2, 500)])
        for lost in (place, nothing_yet):
            with pytest.raises(StreamReset) as reset:
                redis.read_events(lost, 10, 0.0)
            assert reset.value.since == max(0.0, order(lost)[0] / 1_000 - TELLING_S), "earlier, for changes told late"
            assert redis.read_events(reset.value.after, 10, 0.0)[0] == []
        redis.publish([event(500)])
        assert redis.read_events(reset.value.after, 10, 0.0)[0] == [event(500)]

    def test_a_place_the_stream_never_had_is_a_reset_too(self, redis: Coordinator) -> None:
        redis.publish([event(1)])
        for place in ("9999999999999999999-0", "5-0"):
            with pytest.raises(StreamReset) as reset:
                redis.read_events(place, 10, 0.0)
            assert 0 <= reset.value.since <= time.time()

    @pytest.mark.parametrize("place", ["", "0", "$", "1-", "-1-1", "1-1 ", "²-1", "9" * 30 + "-0", "x" * 1_000])
    def test_what_is_no_place_is_refused(self, redis: Coordinator, place: str) -> None:
        with pytest.raises(Rejected) as refusal:
            redis.read_events(place, 10, 0.0)
        assert refusal.value.field == "after"
