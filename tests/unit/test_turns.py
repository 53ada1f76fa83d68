"""Whose turn it is: each user gets the weight's share of the slots, and no slot stays free that somebody could use."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.admission.turns import STEP_S, Holding, Turns, holdings, moved, planned
from worker.coordination.fake import FakeCoordinator
from worker.jobs.tiers import FixedTiers, Tier
from worker.ports import Heads, Tiers, WaitingJob, WaitingLine

TIERS = FixedTiers(
    {
        "free": Tier("free"),
        "one": Tier("one", weight=1),
        "two": Tier("two", weight=2),
        "four": Tier("four", weight=4),
        "three at once": Tier("three at once", running=3),
    }
)
LIMIT = 100
Length = Callable[[random.Random], float]


def line(user: str, jobs: int = 9, *, tier: str = "free", turn: float = 1.0, size: int | None = None) -> WaitingLine:
    return WaitingLine(user, tier, turn, jobs if size is None else size, tuple(f"{user}{n}" for n in range(jobs)))


def order(*lines: WaitingLine, held: Mapping[str, int] | None = None, limit: int = LIMIT, tiers: Tiers = TIERS) -> list[str]:
    """The users in the order in which their jobs are admitted."""
    tier_of = {line.user: line.tier for line in lines}
    counts = {(user, tier_of.get(user, "free")): slots for user, slots in (held or {}).items()}
    turns, users = Turns(lines, holdings(counts, tiers), tiers), []
    while len(users) < limit and (id := turns.next()) is not None:
        turns.admitted()
        users.append(id.rstrip("0123456789"))
    return users


# ---- the order of one admission ----


def test_users_of_one_weight_take_turns_whatever_they_have_waiting() -> None:
    assert order(line("a", 50), line("b", 2), line("c", 1), limit=8) == ["a", "a", "b", "c", "a", "b", "a", "a"]


def test_a_start_that_is_given_back_leaves_its_user_as_due_as_before() -> None:
    lines, held = (line("a"), line("b")), holdings({("a", "free"): 2}, TIERS)
    turns = Turns(lines, held, TIERS)
    assert turns.next() == "b0"
    turns.admitted()
    turns.given_back("b")
    heads = Heads(2, lines)
    after, untouched = (moved(some, heads, held, TIERS, 1.0) for some in (turns, Turns(lines, held, TIERS)))
    assert (after.steps.get("b"), after.shares["a"], after.shares["b"]) == (0.0, untouched.shares["a"], 0.0)


def test_who_has_the_fewest_slots_for_the_weight_is_next() -> None:
    assert order(line("a"), line("b"), held={"a": 2}, limit=4) == ["b", "a", "b", "a"], "a is first in turn and b would have as many"
    assert order(line("a"), line("b"), held={"a": 3}, limit=4) == ["b", "b", "a", "b"]
    assert Counter(order(line("a", 99), line("b", 99, tier="four"), limit=50)) == {"a": 11, "b": 39}, "a quarter, and one"


def test_among_equals_the_one_furthest_behind_has_the_slot_that_is_over() -> None:
    behind = [line("a", turn=2.0), line("b", tier="four", turn=1.0), line("c", turn=3.0)]
    assert order(*behind, held={"a": 1, "b": 4, "c": 1}, limit=1) == ["b"]
    behind[2] = line("c", turn=0.5)
    assert order(*behind, held={"a": 1, "b": 4, "c": 1}, limit=1) == ["c"]


def test_the_limit_of_running_jobs_ends_a_line_and_lets_the_others_pass() -> None:
    lines = [line("a", tier="three at once"), line("b", 4)]
    assert Counter(order(*lines, held={"a": 1})) == {"a": 2, "b": 4}
    assert Counter(order(*lines, held={"a": 3})) == {"b": 4}
    counts = {("a", "three at once"): 3, ("a", "free"): 1, ("b", "three at once"): 3, ("c", "two"): 5}
    assert holdings(counts, TIERS) == {"a": Holding(4, 4.0, False), "b": Holding(3, 3.0, True), "c": Holding(5, 2.5, False)}


def test_a_job_that_has_to_wait_does_not_count_for_its_user() -> None:
    turns = Turns([line("a"), line("b", 2)], {}, TIERS)
    assert [turns.next() for _ in range(3)] == ["a0", "a1", "a2"]
    turns.admitted()
    turns.next()
    turns.admitted()
    assert [turns.next() for _ in range(3)] == ["b0", "b1", "a4"]


def test_others_do_not_take_what_the_next_job_of_a_longer_queue_is_due() -> None:
    assert order(line("a", 2, size=9), line("b"), held={"b": 5}) == ["a", "a"], "the third is not at hand"
    assert Counter(order(line("a", 2), line("b"), held={"b": 5})) == {"a": 2, "b": 9}


def test_a_plan_has_the_jobs_that_come_first_and_no_more_than_asked() -> None:
    heads = Heads(3, (line("a", 60), line("b", 60, tier="two"), line("c", 0)))
    lines = planned(heads, {"b": Holding(4, 2.0)}, TIERS, 10)
    assert [(line.user, len(line.ids), line.size) for line in lines] == [("a", 5, 5), ("b", 5, 5)]
    assert planned(Heads(0, ()), {}, TIERS, 10) == ()


def test_turns_move_by_what_each_user_has_and_newcomers_by_the_mean() -> None:
    heads = Heads(4, (line("a", turn=5.0), line("b", tier="two", turn=7.0)))
    held = {"b": Holding(2, 1.0), "gone": Holding(4, 1.0)}
    turns = Turns(heads.lines, held, TIERS)
    for _ in range(2):
        turns.next()
        turns.admitted()
    seen = moved(turns, heads, held, TIERS, 9.0)
    assert (seen.at, seen.steps, seen.reached, seen.before, seen.after) == (9.0, {"a": 2 * STEP_S}, 5.0, 6, 8)
    assert seen.shares == {"b": 1.0, "gone": 1.0, **{user: had.share for user, had in turns.taken.items()}}
    assert seen.pace == pytest.approx(8 / (3.0 + 3.0 + 4.0)), "two users who wait are not seen; who is gone has a weight of 4"


sizes = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.sampled_from(["one", "two", "four", "three at once"])), max_size=12)


@given(sizes, st.integers(1, 60))
def test_every_admission_gives_what_there_is_once_and_is_fair_within_one_job(asked: list[tuple[int, int, str]], limit: int) -> None:
    lines = [line(f"u{n}:", jobs, tier=tier) for n, (jobs, _, tier) in enumerate(asked)]
    held = {f"u{n}:": slots for n, (_, slots, _) in enumerate(asked) if slots}
    users = order(*lines, held=held, limit=limit)
    can = {x.user: min(len(x.ids), max(0, 3 - held.get(x.user, 0)) if x.tier == "three at once" else 99) for x in lines}
    assert len(users) == min(limit, sum(can.values())), "a slot stays free only when nobody can use it"
    has = {x.user: (held.get(x.user, 0) + users.count(x.user), TIERS.of(x.tier, x.user).weight) for x in lines}
    for x in lines:
        if users.count(x.user) < can[x.user]:  # it still waits: nobody who was admitted is further than one job above it
            slots, weight = has[x.user]
            assert all((has[u][0] - 1) / has[u][1] <= (slots + 1) / weight for u in set(users) - {x.user})


# ---- over time ----


class World:
    """Slots, users and a clock: the turns as admission moves them, over the waiting index in memory."""

    def __init__(self, slots: int, lengths: Mapping[str, Length], seed: int = 1) -> None:
        self.redis, self.slots, self.lengths, self.random = FakeCoordinator(), slots, lengths, random.Random(seed)
        self.now, self.numbers, self.done = 1_000.0, count(), 0
        self.ends: list[tuple[float, int, str, str]] = []
        self.held: Counter[tuple[str, str]] = Counter()
        self.had: Counter[str] = Counter()
        self.waiting: dict[str, tuple[str, str, float]] = {}
        self.waited: dict[str, float] = {}

    def ask(self, user: str, tier: str = "free", jobs: int = 1) -> None:
        some = [f"{next(self.numbers):06d}" for _ in range(jobs)]
        self.redis.add_waiting([WaitingJob(id, user, 0, self.now, tier=tier) for id in some])
        self.waiting |= dict.fromkeys(some, (user, tier, self.now))

    def admit(self) -> int:
        held = holdings(self.held, TIERS)
        heads = self.redis.waiting_heads(LIMIT, self.now, without=[user for user, had in held.items() if had.full])
        turns = Turns(planned(heads, held, TIERS, 8 + 2 * (self.slots - self.held.total())), held, TIERS)
        started = []
        while self.held.total() < self.slots and (id := turns.next()) is not None:
            turns.admitted()
            started.append(id)
            user, tier, since = self.waiting.pop(id)
            self.waited[user] = max(self.waited.get(user, 0.0), self.now - since)
            self.held[user, tier] += 1
            heapq.heappush(self.ends, (self.now + self.lengths[user](self.random), next(self.numbers), user, tier))
        self.redis.drop_waiting(started)
        self.redis.move_turns(moved(turns, heads, held, TIERS, self.now))
        return len(started)

    def step(self) -> None:
        """Admission until nothing more is admitted, then the next end of a job; no slot is free that somebody could use."""
        while self.admit():
            pass
        if self.held.total() < self.slots:
            able = [user for user, tier, _ in self.waiting.values() if tier != "three at once" or self.held[user, tier] < 3]
            assert not able, f"{self.slots - self.held.total()} slots are free and {able[:3]} wait"
        end, _, user, tier = heapq.heappop(self.ends)
        for (name, _), slots in self.held.items():
            self.had[name] += slots * (end - self.now)  # type: ignore[assignment] - seconds of one slot
        self.now, self.done = end, self.done + 1
        self.held[user, tier] -= 1
        self.held += Counter()

    def shares(self) -> dict[str, float]:
        return {user: seconds / self.had.total() for user, seconds in self.had.items()}


def steady(random: random.Random) -> float:
    return random.uniform(0.8, 1.2)


def long(random: random.Random) -> float:
    return random.uniform(10.0, 20.0)


def wild(random: random.Random) -> float:
    return random.paretovariate(1.5)


@pytest.mark.parametrize("slots", [3, 10])
@pytest.mark.parametrize("lengths", [(steady, steady, steady), (long, steady, steady), (steady, long, long)])
def test_weights_of_one_two_and_four_give_their_shares_of_the_slots(slots: int, lengths: tuple[Length, Length, Length]) -> None:
    users = dict(zip(("one", "two", "four"), lengths, strict=True))
    world = World(slots, users)
    while world.now < 1_000 + (800 if long in lengths else 300):
        for user in users:
            if sum(owner == user for owner, _, _ in world.waiting.values()) < 5:
                world.ask(user, user, 20)
        world.step()
    shares = world.shares()
    for user, weight in (("one", 1), ("two", 2), ("four", 4)):
        assert shares[user] == pytest.approx(weight / 7, rel=0.1), shares


def test_ten_thousand_jobs_leave_no_slot_free_at_any_step_and_nobody_behind() -> None:
    tiers = ["one", "two", "four", "free", "three at once"]
    world = World(16, {f"u{n}": (steady, long, wild)[n % 3] for n in range(40)})
    asked = 0
    while asked < 10_000 or world.waiting:
        if asked < 10_000 and world.random.random() < 0.2:
            number = world.random.choice([0, 0, world.random.randrange(40)])
            jobs = min(world.random.choice([1, 5, 400 if number == 0 else 20]), 10_000 - asked)
            world.ask(f"u{number}", tiers[number % len(tiers)], jobs)
            asked += jobs
        if world.waiting or world.ends:
            world.step()
    while world.ends:
        world.step()
    assert world.done == 10_000


def test_a_user_with_one_job_is_not_starved_by_many_who_come_again_and_again() -> None:
    world = World(2, {f"u{n}": steady for n in range(30)} | {"z": steady})
    world.ask("z")
    for _ in range(300):
        for n in range(30):
            if all(owner != f"u{n}" for owner, _, _ in world.waiting.values()):
                world.ask(f"u{n}", "four")
        world.step()
    assert world.waited["z"] < 40.0, "others have 4 times its weight"


def test_who_was_idle_has_no_credit_and_who_comes_back_no_debt() -> None:
    world = World(10, {"a": steady, "b": steady, "c": steady})
    world.ask("a", jobs=2_000)
    for _ in range(500):
        world.step()
    world.ask("b", jobs=500)
    world.had.clear()
    for _ in range(300):
        world.step()
    assert world.shares()["b"] == pytest.approx(0.5, rel=0.1), "b takes its half, not all, and at once"
    world.redis.flush()
    world.redis.add_waiting([WaitingJob(id, user, 0, since) for id, (user, _, since) in world.waiting.items()])
    world.had.clear()
    for _ in range(100):
        world.step()
    assert world.shares()["b"] == pytest.approx(0.5, rel=0.1), "a rebuilt index is as fair"
