"""The index of the jobs that wait, and whose turn it is."""

from __future__ import annotations

from tests.contract.coordinator_suite import CoordinatorFixtures, ids_of, moved, users_of, waiting
from worker.limits import TURN_BOUND_S
from worker.ports import Coordinator, Freed, Heads, WaitingLine


class WaitingSuite(CoordinatorFixtures):
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
