"""The circuit breaker: longer rests for engines that go on failing, one job to show that one works."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.breaker import LEVEL_MAX, REST_S, Breaker, Circuit, breaker_of


def test_each_failure_rests_it_for_longer_as_the_table_says() -> None:
    breaker, now, rests = Breaker(), 100.0, []
    for _ in range(LEVEL_MAX + 2):
        breaker = breaker.opened(now, "it failed")
        rests.append(breaker.until - now)
        assert breaker.answered(breaker.until - 0.1).state is (Circuit.HALF_OPEN if rests[-1] == 0 else Circuit.OPEN) or breaker.level == 1
        now = breaker.until
        breaker = breaker.answered(now)
        assert breaker.state is Circuit.HALF_OPEN
    assert rests[:5] == [0, 60, 300, 900, 1_800]
    assert rests[5] >= 3_600
    assert rests == [*REST_S, REST_S[-1], REST_S[-1]]


def test_each_success_is_one_level_down_and_the_first_closes_it() -> None:
    breaker = Breaker().opened(0, "x").opened(0, "x").opened(0, "x").answered(1e6)
    levels = []
    for _ in range(4):
        breaker = breaker.succeeded(1e6)
        levels.append((breaker.state, breaker.level))
    assert levels == [(Circuit.CLOSED, 2), (Circuit.CLOSED, 1), (Circuit.CLOSED, 0), (Circuit.CLOSED, 0)]


def test_an_outage_is_one_failure_however_long_it_lasts() -> None:
    breaker = Breaker().unanswered(10, 0, "no answer")
    for now in range(20, 10_000, 30):
        assert breaker.unanswered(now, 0, "no answer") is breaker
    assert (breaker.level, breaker.silent_since) == (1, 0)
    heard = breaker.answered(10_000)
    assert (heard.state, heard.level, heard.silent_since) == (Circuit.HALF_OPEN, 1, None)


def test_an_engine_that_rests_and_then_is_silent_rests_as_long_as_it_was_to() -> None:
    breaker = Breaker().opened(0, "x").opened(0, "x").unanswered(5, 5, "no answer")
    assert (breaker.level, breaker.until, breaker.silent_since) == (2, 60, 5)
    assert breaker.answered(30).state is Circuit.OPEN
    assert breaker.answered(60).state is Circuit.HALF_OPEN


def test_what_ends_well_on_an_engine_that_rests_does_not_wake_it() -> None:
    rested = Breaker().opened(0, "x").opened(0, "x").succeeded(1)
    assert (rested.state, rested.level, rested.until) == (Circuit.OPEN, 1, 60)


def test_a_store_s_clock_that_was_set_back_rests_nobody_for_ever() -> None:
    assert Breaker().opened(1e9, "x").opened(1e9, "x").answered(5.0).state is Circuit.HALF_OPEN


steps = st.lists(st.tuples(st.sampled_from(["opened", "unanswered", "answered", "succeeded"]), st.floats(0, 1e5)), max_size=30)


@given(steps)
def test_it_is_always_one_of_three_and_its_document_says_all_of_it(steps: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for step, passed in steps:
        now += passed
        if step in ("opened", "unanswered"):
            was = breaker
            breaker = breaker.opened(now, "x") if step == "opened" else breaker.unanswered(now, now - 1, "x")
            assert breaker.state is Circuit.OPEN
            assert breaker.level >= was.level
        else:
            breaker = breaker.answered(now) if step == "answered" else breaker.succeeded(now)
        assert 0 <= breaker.level <= LEVEL_MAX
        assert breaker.until - breaker.since <= REST_S[-1]
        assert breaker_of(breaker.document()) == breaker


@pytest.mark.parametrize("document", [None, {}, {"state": "ajar"}, {"level": 1, "state": None}])
def test_what_cannot_be_read_is_a_closed_one(document: dict[str, object] | None) -> None:
    assert breaker_of(document) == Breaker()
    assert breaker_of({**asdict(Breaker(level=2)), "of a newer version": 1}).level == 2
