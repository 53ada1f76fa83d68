"""What an engine has to be told so that it takes its share: simulated engines, a second at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.jobs.model import Progress
from worker.jobs.states import Phase
from worker.ports import Item, ItemStatus
from worker.supervision.bandwidth.regulation import LEAST, MOST, WINDOW_S, Meter, Regulation, Regulations

SHARE = 3_000_000.0
#: What a second takes of a limit.
Takes = Callable[[float], float]


@dataclass
class Aria2:
    """Its own count: a look a second, at which it takes what is due; a slot is forgotten when it is older than ten seconds."""

    now: float = 0.0
    slots: deque[tuple[float, float]] = field(default_factory=deque)

    def __call__(self, limit: float) -> float:
        self.now += 1.001
        while self.slots and self.now - self.slots[0][0] > 10.0:
            self.slots.popleft()
        since = self.now - self.slots[0][0] if self.slots else 0.001
        due = max(0.0, limit * since - sum(taken for _, taken in self.slots))
        if due:
            self.slots.append((self.now, due))
        return due


def qbittorrent(limit: float) -> float:
    return 0.967 * limit


def gaps() -> Takes:
    """All of it, but nothing in each sixth second."""
    seconds = count(1)
    return lambda limit: limit if next(seconds) % 6 else 0.0


class Run:
    """An engine under regulation, at work without a break; what it took of its share, by second."""

    def __init__(self, takes: Takes, first: float = 1.0, share: float = SHARE) -> None:
        self.takes, self.share = takes, share
        self.regulation = Regulation(first)
        self.now = 0.0
        self.parts: list[float] = []
        self.factors: list[float] = []

    def go(self, seconds: int) -> Run:
        for _ in range(seconds):
            told = self.regulation.told(self.share)
            self.regulation.limited(self.share, told, self.now)
            self.now += 1.0
            taken = self.takes(told)
            self.regulation.saw(int(taken), self.now)
            self.parts.append(taken / self.share)
            self.factors.append(self.regulation.factor)
        return self

    def means(self, since: int = 0) -> list[float]:
        """Over every half minute, of the share."""
        parts = self.parts[since:]
        return [sum(parts[n : n + 30]) / 30 for n in range(len(parts) - 29)]


def test_aria2_by_itself_takes_nine_tenths_of_a_limit_and_the_simulation_as_much() -> None:
    aria2 = Aria2()
    taken = [aria2(1.0) for _ in range(300)]
    assert 0.88 <= sum(taken[100:]) / 200 <= 0.92


@pytest.mark.parametrize("first", [1.0, 0.9])
def test_an_engine_that_comes_in_bursts_and_takes_too_little_is_told_more_until_it_takes_its_share(first: float) -> None:
    run = Run(Aria2(), first).go(300)
    assert all(0.95 <= mean <= 1.05 for mean in run.means(90)), run.means(90)
    assert max(run.means()) <= 1.1
    assert max(run.factors[120:]) - min(run.factors[120:]) <= 0.08, "it does not swing"


def test_an_engine_that_takes_a_little_less_is_brought_to_its_share_and_left_there() -> None:
    run = Run(qbittorrent).go(300)
    assert all(0.98 <= mean <= 1.01 for mean in run.means(120))
    assert len(set(run.factors[120:])) == 1


def test_an_engine_that_takes_more_than_it_is_told_is_told_less() -> None:
    run = Run(lambda limit: 1.08 * limit).go(300)
    assert all(0.97 <= mean <= 1.03 for mean in run.means(120))


@pytest.mark.parametrize("part", [0.2, 0.7, 0.85, 0.94])
def test_slow_sources_wind_nothing_up(part: float) -> None:
    run = Run(lambda limit: min(0.967 * limit, part * SHARE)).go(600)
    assert run.factors[-1] <= 1 / 0.95
    run.takes = qbittorrent
    assert max(run.go(120).means()) <= 1.05


def test_sources_that_come_and_go_make_it_be_left_alone_for_a_while() -> None:
    random = Random(7)
    run = Run(lambda limit: min(limit, random.choice((0.5, 2.0)) * SHARE)).go(900)
    assert max(run.factors) <= MOST
    assert run.factors[-1] == 1.0
    assert max(run.means()) <= 1.1


def test_an_engine_that_is_told_the_most_and_still_takes_too_little_is_told_no_more() -> None:
    run = Run(gaps()).go(300)
    assert max(run.factors) <= MOST
    assert run.factors[-1] > MOST - 0.03


@pytest.mark.parametrize("jump", [0.5, 2.0])
def test_a_share_that_jumps_keeps_the_factor_and_what_comes_of_the_jump_is_not_counted(jump: float) -> None:
    run = Run(Aria2(), 0.9).go(200)
    for _ in range(3):
        factor = run.regulation.factor
        run.share *= jump
        run.go(40)
        assert run.regulation.factor == factor
        assert 0.8 <= sum(run.parts[-40:-10]) / 30 <= 1.1, "aria2 takes all at once, or nothing, and then as before for ten seconds"
        run.go(100)
        assert all(0.9 <= mean <= 1.1 for mean in run.means(len(run.parts) - 128))


def test_a_share_that_drifts_is_followed_all_the_time() -> None:
    run = Run(Aria2())
    for n in range(300):
        run.share = SHARE * (1 + 0.1 * (n % 60) / 60)
        run.go(1)
    assert run.factors[-1] > 1.05


def test_a_factor_that_an_engine_does_not_need_any_more_is_taken_back_within_seconds() -> None:
    run = Run(gaps()).go(200)
    assert run.regulation.factor > MOST - 0.03
    run.takes = lambda limit: limit
    run.go(60)
    assert max(run.means()) <= 1.1
    assert run.regulation.factor <= 1.03


def test_an_engine_at_rest_keeps_its_factor_and_begins_anew() -> None:
    run = Run(Aria2()).go(200)
    factor = run.regulation.factor
    for _ in range(1000):
        run.now += 1.0
        run.regulation.rests()
    assert run.regulation.factor == factor > 1.05
    run.go(12)
    assert run.regulation.factor == factor


def test_times_that_cannot_be_counted_count_as_nothing() -> None:
    regulation = Regulation()
    regulation.limited(SHARE, SHARE, 0.0)
    for n in range(300):
        regulation.saw(None if n % 2 else int(0.95 * SHARE), float(n))
    assert regulation.factor == 1.0, "half of the time is too little"
    for n in range(300, 400):
        regulation.saw(None if n % 5 == 0 else int(0.95 * SHARE), float(n))
    assert 1.02 < regulation.factor < 1.06


def test_an_engine_that_does_not_take_its_limit_is_not_regulated() -> None:
    regulation = Regulation()
    for n in range(100):
        regulation.limited(SHARE, None, float(n))
        regulation.saw(int(9 * SHARE), float(n))
    assert regulation.factor == 1.0


SOURCES = st.lists(st.tuples(st.integers(1, 90), st.floats(0.85, 1.0), st.floats(0.0, 2.0)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(SOURCES)
def test_whatever_an_engine_does_with_its_limit_it_has_no_half_minute_of_more_than_a_tenth_too_much(
    times: list[tuple[int, float, float]],
) -> None:
    run = Run(qbittorrent)
    for seconds, of_limit, source in times:
        run.takes = lambda limit, of_limit=of_limit, source=source: min(of_limit * limit, source * SHARE)  # type: ignore[misc]
        run.go(seconds)
    assert all(LEAST <= factor <= MOST for factor in run.factors)
    assert all(mean <= 1.1 for mean in run.means()), max(run.means())


# ---- what is measured -------------------------------------------------------------------------------------------------


def item(done: int, status: ItemStatus = ItemStatus.RUNNING, phase: Phase | None = None) -> Item:
    return Item("x", status, None, Progress(done), phase)


def test_bytes_are_counted_where_every_one_of_them_was_seen_to_come() -> None:
    meter = Meter()
    assert meter.taken({"a": item(100)}, "1") is None, "the first look"
    assert meter.taken({"a": item(150)}, "1") == 50
    assert meter.taken({"a": item(160), "b": item(0)}, "1") == 10
    assert meter.taken({"a": item(200, ItemStatus.COMPLETE), "b": item(5)}, "1") == 45
    assert meter.taken({"b": item(6)}, "1") == 1, "one that was complete went"
    assert meter.taken({"b": item(7), "c": item(3)}, "1") is None, "one came with bytes: of now, or from before"
    assert meter.taken({"b": item(8), "c": item(4)}, "1") == 2
    assert meter.taken({"b": item(9), "c": item(1)}, "1") is None, "what was bad was thrown away"
    assert meter.taken({"b": item(10)}, "1") is None, "one went, with what came meanwhile"
    assert meter.taken({"b": item(900, phase=Phase.CHECKING)}, "1") is None, "it looks through what it has"
    assert meter.taken({"b": item(901)}, "1") == 1
    assert meter.taken({"b": item(902)}, "2") is None, "it was started again"


def test_a_download_of_its_own_limit_has_a_factor_of_its_own_and_short_ones_have_none() -> None:
    each, aria2, done = Regulations(), Aria2(), 0
    for n in range(int(3 * WINDOW_S)):
        told = {"long": each.told("long", SHARE), f"short{n // 5}": each.told(f"short{n // 5}", SHARE)}
        assert told[f"short{n // 5}"] == SHARE
        each.limited({handle: (SHARE, limit) for handle, limit in told.items()}, float(n))
        done += int(aria2(told["long"]))
        each.saw({"long": item(done), f"short{n // 5}": item(n % 5 * int(SHARE))}, float(n + 1))
    assert each.told("long", SHARE) > 1.03 * SHARE
    each.saw({"long": item(done, ItemStatus.PAUSED)}, 1000.0)
    assert each.told("long", SHARE) > 1.03 * SHARE
    each.limited({"long": (None, None)}, 1000.0)
    assert each.told("long", SHARE) == SHARE


def test_a_download_of_an_engine_that_takes_less_begins_in_the_middle_for_it_takes_all_while_it_is_new() -> None:
    each, aria2 = Regulations(0.9), Aria2()
    told = each.told("new", SHARE)
    taken = [aria2(told) / SHARE for _ in range(40)]
    assert 0.9 <= sum(taken[10:]) / 30 < sum(taken[1:10]) / 9 <= 1.1
