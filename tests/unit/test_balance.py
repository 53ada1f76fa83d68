"""Which engine gets a job: shares by weight, and the same answer everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.admission.balance import STRATEGIES, Balance, choose
from worker.admission.decide import EngineView
from worker.jobs.model import Job, SourceKind, new_job
from worker.jobs.probe import Probe
from worker.jobs.requests import parse
from worker.ports import Features
from worker.settings import SettingsError, load

MIB = 1 << 20
weights = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def engine(name: str, **fields: object) -> EngineView:
    base = EngineView(name, Features(frozenset({SourceKind.HTTP})), capacity=10_000, live=0, alive=True)
    return replace(base, **fields)  # type: ignore[arg-type]


def job(key: str = "k", size: int | None = None, attempt: int = 1) -> Job:
    made = new_job(parse({"uri": "http://host/x", "user": "u", "key": key}), 1.0)
    return replace(made, probe=Probe(size) if size is not None else None, attempt=attempt)


def shares(strategy: str, weights: list[int], jobs: int, size: int | None = MIB) -> list[int]:
    """How many of so many jobs each engine gets when none of them ends."""
    views = {f"e{number}": engine(f"e{number}", weight=weight) for number, weight in enumerate(weights)}
    got: Counter[str] = Counter()
    for place in range(jobs):
        one = choose(Balance(strategy, place), job(str(place), size), list(views.values()))
        got[one.name] += 1
        views[one.name] = replace(one, live=one.live + 1, outstanding=one.outstanding + (size or 0))
    return [got[name] for name in views]


@pytest.mark.parametrize("strategy", ["round-robin", "least-loaded", "capacity"])
@settings(max_examples=25, deadline=None)
@given(weights=weights)
def test_the_shares_of_engines_are_their_weights(strategy: str, weights: list[int]) -> None:
    jobs = 5 * sum(weights)
    for got, weight in zip(shares(strategy, weights, jobs), weights, strict=True):
        assert abs(got - 5 * weight) <= max(1, weight)


@pytest.mark.parametrize("weights", [[1, 1], [1, 2, 5]])
def test_at_random_the_shares_of_engines_are_their_weights_within_a_tenth(weights: list[int]) -> None:
    jobs = 3_000
    for got, weight in zip(shares("random", weights, jobs), weights, strict=True):
        assert got == pytest.approx(jobs * weight / sum(weights), rel=0.1)


@settings(max_examples=25, deadline=None)
@given(weights=weights, place=st.integers(0, 10**9))
def test_in_turns_every_run_of_as_many_jobs_as_there_is_weight_has_each_engine_by_its_weight(weights: list[int], place: int) -> None:
    engines = [engine(f"e{number}", weight=weight) for number, weight in enumerate(weights)]
    got = Counter(choose(Balance("round-robin", place + n), job(), engines).name for n in range(sum(weights)))
    assert [got[view.name] for view in engines] == weights


def test_equal_engines_take_turns_one_by_one() -> None:
    engines = [engine(name) for name in "cab"]
    assert "".join(choose(Balance("round-robin", place), job(), engines).name for place in range(7)) == "abcabca"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_answer_is_the_same_in_another_process_and_in_any_order_of_the_engines(strategy: str) -> None:
    engines = [engine("a", live=2, outstanding=5), engine("b", live=1, weight=2), engine("c", pace=2.0)]
    asked = [(Balance(strategy, place), job(str(place), MIB)) for place in range(40)]
    here = [choose(balance, each, engines).name for balance, each in asked]
    assert here == [choose(balance, each, engines[::-1]).name for balance, each in asked]
    there = subprocess.run([sys.executable, "-c", ELSEWHERE, strategy], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(there.stdout) == here


ELSEWHERE = """
import json, sys
from tests.unit.test_balance import Balance, MIB, choose, engine, job
engines = [engine("a", live=2, outstanding=5), engine("b", live=1, weight=2), engine("c", pace=2.0)]
print(json.dumps([choose(Balance(sys.argv[1], place), job(str(place), MIB), engines).name for place in range(40)]))
"""


def test_at_random_an_engine_that_comes_takes_jobs_and_moves_no_other_and_the_next_attempt_has_another_chance() -> None:
    two, three = [engine("a"), engine("b")], [engine("a"), engine("b"), engine("c")]
    before = [choose(Balance("random"), job(str(n)), two).name for n in range(200)]
    after = [choose(Balance("random"), job(str(n)), three).name for n in range(200)]
    assert all(old == new or new == "c" for old, new in zip(before, after, strict=True))
    assert before != [choose(Balance("random"), job(str(n), attempt=2), two).name for n in range(200)]


def test_by_capacity_the_faster_engine_gets_by_its_speed_more_bytes() -> None:
    views = {"fast": engine("fast", pace=30.0 * MIB), "slow": engine("slow", pace=10.0 * MIB)}
    got: Counter[str] = Counter()
    for number in range(400):
        one = choose(Balance("capacity"), job(str(number), 8 * MIB), list(views.values()))
        got[one.name] += 1
        views[one.name] = replace(one, live=one.live + 1, outstanding=one.outstanding + 8 * MIB)
    assert got["fast"] == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"outstanding": 900 * MIB}, {}),
        ({"level": 2}, {}),
        ({"available": 70 * MIB}, {"available": 700_000 * MIB}),
        ({"pace": 1.0}, {"pace": 2.0}),
    ],
    ids=["owes more", "failed lately", "nearly full", "slower"],
)
def test_by_capacity_an_engine_gets_less_that_is_worse_off(worse: dict[str, object], better: dict[str, object]) -> None:
    assert choose(Balance("capacity"), job(size=64 * MIB), [engine("a", **worse), engine("b", **better)]).name == "b"


def test_a_word_that_is_no_strategy_is_refused_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"HAUL_BALANCER: .*'round-robin'.*'least-loaded'.*'random'.*'capacity'"):
        load(balancer="fastest")
    assert {load(balancer=word).balancer for word in STRATEGIES} == set(STRATEGIES)
