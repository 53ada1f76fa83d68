"""What counts as a regression: a planted slowdown and nothing else, and never the noise of an unchanged system."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.captures import JUDGED, MACHINE, TRUTH, System, capture
from worker.maintenance.baseline.compare import HISTORY, HISTORY_MIN, NOISE_FACTOR, Verdict, against, between, confirmed
from worker.maintenance.baseline.document import Capture
from worker.maintenance.baseline.figures import Figure, rule

#: What a machine at rest shows of the best of a round.
QUIET = {"between": 0.01, "within": 0.02}
#: Times are to be told at a third more; memory, files and connections at half as much again, for they follow the work there is.
PLANTED = {name: 1.3 if rule(name).unit == "ms" else 1.7 for name in JUDGED}


#: The shortest times that a machine showed with everything on it and no jobs, in milliseconds.
SMALL = {
    "api.one.best_ms": 0.41,
    "api.one.p50_ms": 0.5,
    "api.one.p95_ms": 1.3,
    "store.read_ms": 0.022,
    "store.count_ms": 0.02,
    "store.batch_read_ms": 0.13,
    "store.batch_write_ms": 1.05,
    "redis.ping_ms": 0.046,
    "redis.snapshots_ms": 0.17,
    "engine.one.rpc_ms": 0.61,
}


def flagged(comparison: object) -> list[str]:
    return [each.name for each in comparison.worse]  # type: ignore[attr-defined]


@pytest.mark.parametrize("figure", JUDGED)
def test_a_planted_slowdown_of_one_figure_is_flagged_and_nothing_else_is(figure: str) -> None:
    for seed in range(5):
        system = System(seed, **QUIET)
        history, slow = system.captures(HISTORY), system.capture({figure: PLANTED[figure]})
        assert flagged(against(slow, history)) == [figure]
        assert flagged(between(history[0], slow)) == [figure]


@pytest.mark.parametrize("figure", SMALL)
def test_a_slowdown_is_flagged_where_everything_is_on_one_idle_machine_too(figure: str) -> None:
    system = System(1, **QUIET, truth=TRUTH | SMALL)
    history = system.captures(HISTORY)
    assert flagged(against(system.capture({figure: 1.3}), history)) == [figure]


@pytest.mark.parametrize("figure", JUDGED)
def test_what_became_better_is_told_as_such_and_is_no_regression(figure: str) -> None:
    system = System(1, **QUIET)
    history, quick = system.captures(HISTORY), system.capture({figure: 0.4})
    judged = {each.name: each.verdict for each in against(quick, history).judgements}
    assert judged[figure] is Verdict.BETTER
    assert Verdict.WORSE not in judged.values()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.floats(0.0, 0.02))
def test_ten_captures_of_an_unchanged_system_raise_no_regression(seed: int, noise: float) -> None:
    captures = System(seed, between=noise, within=2 * noise).captures(10)
    for number, each in enumerate(captures):
        assert flagged(against(each, captures[number + 1 :])) == []
    assert flagged(between(captures[1], captures[0])) == []


def test_on_a_noisy_machine_chance_flags_less_than_one_figure_in_a_hundred_and_a_second_look_hardly_any() -> None:
    first = second = looked = 0
    for seed in range(30):
        system = System(seed, between=0.08, within=0.15)
        history = system.captures(HISTORY)
        seen = against(system.capture(), history)
        first += len(seen.worse)
        second += len(confirmed(seen, against(system.capture(), history)).worse)
        looked += len(JUDGED)
    assert first < looked / 100
    assert second <= first / 2


def test_noise_widens_what_is_let_pass_and_the_verdict_tells_by_how_much() -> None:
    def tolerance(values: tuple[float, ...]) -> float:
        history = [capture(number, {"redis.ping_ms": Figure(value, 0.0, 7)}) for number, value in enumerate(values)]
        (judged,) = against(capture(9, {"redis.ping_ms": Figure(11.0, 0.0, 7)}), history).judgements
        assert judged.tolerance is not None
        return judged.tolerance

    assert tolerance((10, 10, 10, 10, 10, 10, 10)) == pytest.approx(2.0), "the least part that matters"
    assert tolerance((9, 10, 11, 9, 10, 11, 10)) == pytest.approx(NOISE_FACTOR * 1.4826), "five deviations, of a MAD of 1"


def test_a_figure_that_jumps_about_is_unknown_and_not_the_same() -> None:
    history = [capture(number, {"redis.ping_ms": Figure(value, 0.0, 7)}) for number, value in enumerate((1, 9, 2, 8, 1, 9, 3))]
    (judged,) = against(capture(9, {"redis.ping_ms": Figure(6.0, 0.0, 7)}), history[::-1]).judgements
    assert (judged.verdict, judged.why) == (Verdict.UNKNOWN, "too noisy to tell")


def test_a_change_below_the_absolute_floor_is_none_however_large_a_part_it_is() -> None:
    history = [capture(number, {"queue.task_ms": Figure(4.0, 0.0, 7)}) for number in range(HISTORY)]
    (judged,) = against(capture(9, {"queue.task_ms": Figure(12.0, 0.0, 7)}), history).judgements
    assert judged.verdict is Verdict.SAME
    (judged,) = against(capture(9, {"queue.task_ms": Figure(16.0, 0.0, 7)}), history).judgements
    assert judged.verdict is Verdict.WORSE


def test_a_machine_that_is_slower_itself_explains_as_much_and_no_more() -> None:
    system = System(5, **QUIET)
    history = system.captures(HISTORY)
    slower = dict.fromkeys(TRUTH, 1.4)
    assert flagged(against(system.capture(slower | dict.fromkeys(_not_times(), 1.0)), history)) == []
    worse = slower | dict.fromkeys(_not_times(), 1.0) | {"store.read_ms": 2.2}
    assert flagged(against(system.capture(worse), history)) == ["store.read_ms"]


def test_a_slow_disk_explains_slow_writes_only() -> None:
    system = System(6, **QUIET)
    history = system.captures(HISTORY)
    assert flagged(against(system.capture({"machine.disk_sync_ms": 2.0, "store.batch_write_ms": 1.8}), history)) == []
    assert flagged(against(system.capture({"machine.disk_sync_ms": 2.0, "store.read_ms": 1.8}), history)) == ["store.read_ms"]


def test_on_a_machine_that_others_keep_too_busy_slow_calls_are_unknown_and_counts_are_judged_all_the_same() -> None:
    def loaded(number: int, load: float, ms: float, files: float = 100.0) -> Capture:
        figures = {"machine.load_1m": load, "api.jobs.p50_ms": ms, "processes.open_files": files}
        return capture(number, {name: Figure(value, 0.0, 7) for name, value in figures.items()})

    history = [loaded(number, 1.0, 2.0) for number in range(HISTORY)]
    busy = {each.name: each for each in against(loaded(9, 12.0, 18.0, 900.0), history).judgements}
    assert busy["api.jobs.p50_ms"].verdict is Verdict.UNKNOWN
    assert busy["api.jobs.p50_ms"].why == "the machine has more to do than it can: load 12.0 on 2 cores, 1.0 before"
    assert busy["processes.open_files"].verdict is Verdict.WORSE
    assert flagged(against(loaded(9, 1.9, 18.0), history)) == ["api.jobs.p50_ms"], "the cores suffice"
    always = [loaded(number, 10.0, 2.0) for number in range(HISTORY)]
    assert flagged(against(loaded(9, 12.0, 18.0), always)) == ["api.jobs.p50_ms"], "it was as busy before"


def test_with_too_little_history_nothing_is_judged() -> None:
    system = System(7, **QUIET)
    history = system.captures(HISTORY_MIN - 1)
    judged = against(system.capture({"redis.ping_ms": 9.0}), history)
    assert {each.verdict for each in judged.judgements} == {Verdict.UNKNOWN, Verdict.TOLD}


def test_only_captures_made_alike_are_history() -> None:
    system = System(8, **QUIET)
    history = system.captures(HISTORY)
    others = [replace(each, machine={**MACHINE, "cores": 64.0}) for each in system.captures(3)]
    others += [replace(each, source="hand") for each in system.captures(3)]
    now = system.capture()
    assert against(now, [*others, now, *history]).before == tuple(each.id for each in history)


def test_a_capture_by_hand_goes_by_the_clocks_until_there_are_enough_by_hand() -> None:
    system = System(8, **QUIET)
    by_clock, by_hand = system.captures(9), [replace(each, source="hand") for each in system.captures(HISTORY_MIN)]
    now = replace(system.capture({"redis.ping_ms": 1.5}), source="hand")
    assert against(now, by_clock).before == tuple(each.id for each in by_clock[:HISTORY])
    assert flagged(against(now, by_clock)) == ["redis.ping_ms"]
    assert against(now, [*by_hand, *by_clock]).before == tuple(each.id for each in by_hand)
    assert against(replace(now, source="clock"), by_hand).before == ()


def test_figures_measured_on_another_amount_are_not_compared() -> None:
    def polled(number: int, items: float, ms: float) -> object:
        return capture(number, {"engine.aria2.rpc_ms": Figure(ms, 0.1, 7, size=items)})

    history = [polled(number, 0, 2.0) for number in range(HISTORY)]
    (judged,) = against(polled(9, 500, 40.0), history).judgements  # type: ignore[arg-type]
    assert judged.verdict is Verdict.UNKNOWN
    (judged,) = between(history[0], polled(9, 500, 40.0)).judgements  # type: ignore[arg-type]
    assert (judged.verdict, judged.why) == (Verdict.UNKNOWN, "it was measured on 0 then, and on 500 now")
    (judged,) = against(polled(9, 4, 40.0), history).judgements  # type: ignore[arg-type]
    assert judged.verdict is Verdict.WORSE


def test_what_could_not_be_had_is_unknown_with_the_reason_and_never_a_zero() -> None:
    history = [capture(number, {"redis.ping_ms": Figure(1.0, 0.0, 7), "store.read_ms": Figure(1.0, 0.0, 7)}) for number in range(HISTORY)]
    judged = against(capture(9, {"redis.ping_ms": Figure.none("redis: away")}), history)
    assert [(each.name, each.verdict, each.now, each.why) for each in judged.judgements] == [
        ("redis.ping_ms", Verdict.UNKNOWN, None, "redis: away"),
        ("store.read_ms", Verdict.UNKNOWN, None, "it was not measured now"),
    ]
    (judged_again,) = between(capture(1, {"a": Figure.none("no API")}), capture(2, {"a": Figure(1.0, 0.0, 1)})).judgements
    assert judged_again.why == "no API"


def test_one_failed_test_more_is_a_regression() -> None:
    old, new = (capture(number, {"tests.failed": Figure(float(number), 0.0, 1)}) for number in (0, 1))
    assert flagged(between(old, new)) == ["tests.failed"]
    assert flagged(between(new, old)) == []


def test_a_second_look_takes_back_what_it_does_not_show() -> None:
    system = System(9, **QUIET)
    history = system.captures(HISTORY)
    both = {"redis.ping_ms": 2.0, "store.read_ms": 2.0}
    first, second = against(system.capture(both), history), against(system.capture({"redis.ping_ms": 2.0}), history)
    assert flagged(confirmed(first, second)) == ["redis.ping_ms"]
    taken_back = {each.name: each for each in confirmed(first, second).judgements}["store.read_ms"]
    assert (taken_back.verdict, taken_back.why) == (Verdict.SAME, "a second look did not show it")


def test_versions_that_changed_are_named() -> None:
    old, new = capture(1, {}), capture(2, {}, versions={"haul": "2", "redis": "Valkey 8", "store": "SQLite 3"})
    assert between(old, new).changed == (("haul", "1", "2"), ("store", None, "SQLite 3"))


def _not_times() -> list[str]:
    return [name for name in TRUTH if rule(name).unit != "ms"]
