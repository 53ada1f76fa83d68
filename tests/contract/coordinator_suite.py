"""What every `Coordinator` promises. A subclass gives `make`, which connects one more process to the same Redis."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import pytest

from worker.coordination.bounds import BODY_BYTES_MAX
from worker.coordination.places import TELLING_S, order
from worker.jobs.errors import Rejected
from worker.jobs.model import Progress
from worker.limits import TURN_BOUND_S
from worker.ports import SWEEPER, Coordinator, EngineSnapshot, Freed, Heads, StreamReset, TurnsMoved, WaitingJob, WaitingLine

DEADLINE_S = 5.0
Make = Callable[..., Coordinator]


def until(condition: Callable[[], Any]) -> Any:
    """The first true value of the condition within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.005)
    return value


def request(number: int) -> dict[str, Any]:
    return {"kind": "request", "id": f"{number:024d}", "spec": {"uri": f"https://host/{number}", "user": "ü\ud800"}}


def waiting(id: str, user: str, priority: int = 0, since: float = 1_700_000_000.0, due: float = 0.0, tier: str = "free") -> WaitingJob:
    return WaitingJob(id, user, priority, since, due, tier)


def ids_of(redis: Coordinator, limit: int, now: float) -> list[str]:
    """The first of each user in turn, then the second of each, …"""
    rounds = zip_longest(*(line.ids for line in redis.waiting_heads(limit, now, depth=limit).lines))
    return [id for heads in rounds for id in heads if id is not None][:limit]


def users_of(redis: Coordinator, limit: int = 10, **asked: Any) -> list[str]:
    return [line.user for line in redis.waiting_heads(limit, 0.0, **asked).lines]


def moved(at: float, **changes: Any) -> TurnsMoved:
    values: dict[str, Any] = {"steps": {}, "shares": {}, "pace": 0.0, "reached": 0.0, "before": 0, "after": 0}
    return TurnsMoved(at, **{**values, **changes})


def snapshot(name: str, **changes: Any) -> EngineSnapshot:
    values = {"slots": 5, "kinds": ("http", "ftp"), "directory": "/d", "free_bytes": None, "speed": 7, "items": 1, "ahead": 0, "at": 1.5}
    return EngineSnapshot(**{"name": name, "owner": "o", **values, **changes})


def event(number: int) -> dict[str, Any]:
    return {"id": f"job:{number}", "type": "job.queued", "job": "job", "user": "ü", "key": None, "at": 1.5}


class CoordinatorSuite:
    @pytest.fixture
    def make(self) -> Iterator[Make]:
        raise NotImplementedError

    @pytest.fixture
    def redis(self, make: Make) -> Coordinator:
        return make()

    def write_text(self, coordinator: Coordinator, text: bytes) -> None:
        """Put a message in the intake as a stranger may have written it."""
        raise NotImplementedError

    # ---- intake ----

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

    # ---- nudges ----

    def test_offers_wake_one_sweeper_once(self, make: Make) -> None:
        a, b = make(), make()
        a.offer([request(1)])
        a.offer([request(2)])
        assert b.rest(SWEEPER, 5.0) is True
        assert b.rest(SWEEPER, 0.01) is False

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

    # ---- work that was begun ----

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

    # ---- rest and wake ----

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
        assert took < 2.0

    def test_wakes_before_a_rest_end_the_next_one_only(self, redis: Coordinator) -> None:
        redis.wake("aria2")
        redis.wake("aria2")
        assert redis.rest("aria2", 1.0) is True
        assert redis.rest("aria2", 0.05) is False

    def test_a_rest_ends_by_itself(self, redis: Coordinator) -> None:
        start = time.monotonic()
        assert redis.rest("aria2", 0.2) is False
        assert 0.19 <= time.monotonic() - start < 1.0
        assert redis.rest("aria2", 0.0) is False

    # ---- claims ----

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

    # ---- reminders ----

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

    # ---- waiting index ----

    def test_heads_are_the_first_jobs_of_each_user(self, redis: Coordinator) -> None:
        assert redis.waiting_heads(9, 0.0) == Heads(0, ())
        redis.add_waiting([waiting(f"{user}{n}", user, since=n, tier=f"a {user}") for user in ("b", "a", "c") for n in range(3)])
        line = WaitingLine("a", "a a", 1.0, 3, ("a0", "a1"))
        assert redis.waiting_heads(2, 0.0, depth=2) == Heads(3, (line, WaitingLine("b", "a b", 1.0, 3, ("b0", "b1"))))
        assert redis.waiting_heads(2, 0.0, depth=2).lines[0] == line, "looking changes nothing"
        assert redis.waiting_heads(3, 0.0, depth=0, without=["a", "c", "nobody"]) == Heads(3, (WaitingLine("b", "a b", 1.0, 3, ()),))
        assert redis.waiting_heads(0, 0.0) == Heads(3, ())
        assert redis.waiting_size() == 9

    def test_few_users_give_many_jobs_and_many_users_few(self, redis: Coordinator) -> None:
        redis.add_waiting([waiting(f"{user}{n:02d}", user, since=n) for user in "abc" for n in range(50)])
        assert {len(line.ids) for line in redis.waiting_heads(100, 0.0).lines} == {33}
        assert {len(line.ids) for line in redis.waiting_heads(3, 0.0).lines} == {8}
        assert [line.size for line in redis.waiting_heads(3, 0.0).lines] == [50, 50, 50]

    def test_a_turn_moves_by_steps_at_once_and_by_shares_over_time(self, redis: Coordinator) -> None:
        redis.add_waiting([waiting(f"{user}{n}", user) for user in "abc" for n in range(3)])
        redis.move_turns(moved(100.0, steps={"a": 0.5, "nobody": 1.0}, shares={"b": 2.0, "c": 0.25, "nobody": 1.0}))
        assert [(line.user, line.turn) for line in redis.waiting_heads(9, 0.0).lines] == [("b", 1.0), ("c", 1.0), ("a", 1.5)]
        redis.move_turns(moved(110.0, shares={"a": 1.0}))
        assert [(line.user, line.turn) for line in redis.waiting_heads(9, 0.0).lines] == [("a", 1.5), ("c", 3.5), ("b", 21.0)]
        redis.move_turns(moved(105.0))
        assert users_of(redis) == ["a", "c", "b"], "a clock that goes back moves nothing"
        redis.move_turns(moved(115.0, shares={"a": 1.0}))
        redis.move_turns(moved(1e6))
        assert [(line.user, line.turn) for line in redis.waiting_heads(9, 0.0).lines] == [("c", 3.5), ("b", 21.0), ("a", 61.5)], "a minute"

    def test_who_comes_or_comes_back_begins_behind_the_present_turn(self, redis: Coordinator) -> None:
        redis.add_waiting([waiting("a", "a"), waiting("b", "b")])
        redis.move_turns(moved(100.0, steps={"a": 9.0}, pace=0.5))
        redis.drop_waiting(["a"])
        redis.move_turns(moved(110.0, pace=0.5, reached=3.0))
        redis.add_waiting([waiting("a", "a"), waiting("later", "c", due=5.0)])
        assert [(line.user, line.turn) for line in redis.waiting_heads(9, 0.0).lines] == [("b", 1.0), ("a", 6.0)]
        redis.move_turns(moved(111.0, reached=50.0))
        assert [(line.user, line.turn) for line in redis.waiting_heads(9, 9.0).lines] == [("b", 1.0), ("a", 6.0), ("c", 51.0)]

    def test_nobody_gets_further_from_the_others_than_the_bound(self, redis: Coordinator) -> None:
        redis.add_waiting([waiting(f"{user}{n}", user) for user in "abc" for n in range(3)])
        redis.move_turns(moved(0.0, shares={"a": 1e6}, reached=1e4))
        redis.move_turns(moved(1.0, shares={"b": 1.0}))
        redis.move_turns(moved(2.0))
        turns = {line.user: line.turn for line in redis.waiting_heads(9, 0.0).lines}
        assert turns == {"a": 1e4 + TURN_BOUND_S, "b": 1e4 - TURN_BOUND_S + 1.0, "c": 1.0}, "who has nothing waits for the next job"

    def test_slots_that_became_free_are_counted_while_somebody_looked(self, redis: Coordinator) -> None:
        assert redis.freed_lately(0.0) == Freed(0, 0.0)
        redis.move_turns(moved(6_000.0, before=0, after=10))
        assert redis.freed_lately(6_000.0) == Freed(0, 0.0)
        redis.move_turns(moved(6_030.0, before=7, after=9))
        redis.move_turns(moved(6_070.5, before=9, after=9))
        redis.move_turns(moved(6_071.0, before=8, after=8))
        assert redis.freed_lately(6_100.0) == Freed(4, 71.0)
        redis.move_turns(moved(6_500.0, before=0, after=0))
        assert redis.freed_lately(6_500.0) == Freed(4, 71.0), "nobody looked for long: nobody waited"
        assert redis.freed_lately(6_670.0) == Freed(1, 41.0)
        assert redis.freed_lately(60_000.0) == Freed(0, 0.0)

    def test_a_users_jobs_are_ordered_by_priority_then_age_to_the_millisecond(self, redis: Coordinator) -> None:
        now = 1_763_770_000.123
        jobs = [
            waiting("a bit later", "u", since=now + 0.001),
            waiting("early", "u", since=now),
            waiting("urgent", "u", priority=1_000, since=now + 9e8),
            waiting("first", "u", priority=1_000, since=now),
            waiting("some", "u", priority=1, since=now),
        ]
        redis.add_waiting(jobs)
        order = ["first", "urgent", "some", "early", "a bit later"]
        assert ids_of(redis, 10, 0.0) == order
        assert [redis.waiting_place(id, "u") for id in order] == [0, 1, 2, 3, 4]
        assert redis.waiting_place("none", "u") is None
        assert redis.waiting_place("first", "v") is None

    def test_adding_again_changes_nothing_and_another_place_moves_it(self, redis: Coordinator) -> None:
        jobs = [waiting("x", "u v:*", since=1.25), waiting("y", "u v:*", since=2.5), waiting("z", "w", since=3.75)]
        redis.add_waiting(jobs)
        redis.add_waiting([*jobs, *jobs])
        assert ids_of(redis, 10, 0.0) == ["x", "z", "y"]
        redis.move_turns(moved(1.0, steps={"u v:*": 1.0}))
        redis.add_waiting([waiting("y", "u v:*", priority=5, since=2.5)])
        assert ids_of(redis, 10, 0.0) == ["z", "y", "x"], "the turn stays"
        assert redis.waiting_size() == 3
        redis.drop_waiting(["y", "nothing", "y"])
        redis.drop_waiting(["x"])
        assert ids_of(redis, 10, 0.0) == ["z"]
        redis.add_waiting([waiting("z", "u v:*", since=3.75)])
        assert [line.user for line in redis.waiting_heads(9, 0.0).lines] == ["u v:*"], "it may be another's"
        assert redis.waiting_size() == 1

    def test_a_job_is_at_a_head_only_from_when_it_is_due(self, redis: Coordinator) -> None:
        redis.add_waiting([waiting("now", "u", since=2.0), waiting("later", "u", since=1.0, due=100.5), waiting("other", "v", due=90.0)])
        assert ids_of(redis, 10, 80.0) == ["now"]
        assert redis.waiting_size() == 3
        assert redis.waiting_place("later", "u") == 0
        assert ids_of(redis, 10, 100.5) == ["later", "other", "now"]
        redis.add_waiting([waiting("later", "u", since=1.0, due=100.5)])
        assert ids_of(redis, 10, 100.5) == ["later", "other", "now"]
        redis.add_waiting([waiting("later", "u", since=1.0, due=200.0)])
        assert ids_of(redis, 10, 101.0) == ["now", "other"]
        redis.add_waiting([waiting("later", "u", since=1.0, due=0.0)])
        assert ids_of(redis, 10, 101.0) == ["later", "other", "now"]
        redis.drop_waiting(["now", "later", "other"])
        assert ids_of(redis, 10, 1e9) == []
        assert redis.waiting_size() == 0

    def test_three_thousand_jobs_go_in_and_out(self, redis: Coordinator) -> None:
        redis.add_waiting([waiting(f"{n:05d}", f"user {n % 1_000:03d}", since=n) for n in range(3_000)])
        assert ids_of(redis, 100, 0.0) == [f"{n:05d}" for n in range(100)]
        redis.drop_waiting([f"{n:05d}" for n in range(2_999)])
        assert ids_of(redis, 100, 0.0) == ["02999"]

    # ---- progress and snapshots ----

    def test_progress_is_replaced_as_a_whole(self, redis: Coordinator) -> None:
        rows = {"a": Progress(1, None, 3, 4, 5), "b": Progress(2**60, 2**61)}
        redis.put_progress("aria2", rows)
        redis.put_progress("other", {"c": Progress(9)})
        assert redis.progress({"aria2": ["a", "b", "x"], "other": ["c"], "none": ["d"], "empty": []}) == {**rows, "c": Progress(9)}
        redis.put_progress("aria2", {"b": Progress(3)})
        assert redis.progress({"aria2": ["a", "b"]}) == {"b": Progress(3)}
        redis.put_progress("aria2", {})
        assert redis.progress({"aria2": ["a", "b"], "other": ["c"]}) == {"c": Progress(9)}
        assert redis.progress({}) == {}

    def test_snapshots_are_shared_until_they_run_out(self, make: Make) -> None:
        a, b = make(), make(snapshot_s=0.05)
        assert a.snapshots() == {}
        assert not a.put_snapshot(snapshot("aria2")), "nobody could see it before"
        assert a.put_snapshot(snapshot("aria2", speed=8, error="it is gone"))
        assert not b.put_snapshot(snapshot("brief"))
        assert b.snapshots()["aria2"] == snapshot("aria2", speed=8, error="it is gone")
        shared = snapshot("aria2", share=2048, limit=1024, budgets={"tier:free": {"hungry": 2, "wants": 0.5}}, unheld=1, budget="2 KiB")
        assert a.put_snapshot(shared)
        assert b.snapshots()["aria2"] == shared
        until(lambda: set(a.snapshots()) == {"aria2"})

    def test_starts_are_counted_over_all_processes_and_asking_counts_none(self, make: Make) -> None:
        a, b = make(), make()
        assert (a.count_starts(), a.count_starts(3), b.count_starts(2), b.count_starts(), a.count_starts()) == (0, 0, 3, 5, 5)

    # ---- events ----

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
        assert time.monotonic() - start < 2.0

    def test_a_reader_waits_no_longer_than_asked(self, redis: Coordinator) -> None:
        start = time.monotonic()
        assert redis.read_events(None, 10, 0.2)[0] == []
        assert 0.19 <= time.monotonic() - start < 1.0

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

    def test_ping_returns(self, redis: Coordinator) -> None:
        redis.ping()

    def test_the_server_says_which_it_is_and_who_is_connected(self, redis: Coordinator) -> None:
        facts = redis.facts()
        assert re.fullmatch(r"(Valkey|Redis|memory) \d+.*", facts.version)
        assert facts.connections >= 1
        assert facts.used_bytes > 0

    # ---- advice ----

    def test_the_advice_of_each_process_is_its_last(self, make: Make) -> None:
        one, other = make(), make()
        assert one.advice() == {}
        one.put_advice("a", {"findings": [1]})
        other.put_advice("b", {"findings": [2]})
        one.put_advice("a", {"findings": []})
        assert other.advice() == {"a": {"findings": []}, "b": {"findings": [2]}}

    def test_the_advice_of_the_oldest_processes_makes_room(self, redis: Coordinator) -> None:
        for number in range(60):
            redis.put_advice(f"p{number}", {"number": number})
        assert set(redis.advice()) == {f"p{number}" for number in range(10, 60)}
