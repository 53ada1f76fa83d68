"""Samples in turns: bounded in time and load, and honest about what failed."""

from __future__ import annotations

import pytest

from worker.jobs.errors import Transient
from worker.maintenance.baseline.rounds import HARD_S, OVER, REST_FACTOR, ROUNDS, Gauge, Probe, best, measured, part


class Time:
    """A clock that only calls and rests move."""

    def __init__(self) -> None:
        self.now = self.rested = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.rested += seconds

    def call(self, seconds: float, size: float | None = None) -> object:
        def ask() -> float | None:
            self.now += seconds
            return size

        return ask


@pytest.fixture
def time() -> Time:
    return Time()


def run(time: Time, probes: list[Probe], gauges: tuple[Gauge, ...] = (), **more: object) -> dict[str, object]:
    return measured(probes, gauges, clock=time.read, sleep=time.sleep, **more)  # type: ignore[arg-type,return-value]


def test_each_round_gives_one_sample_and_the_first_look_is_not_counted(time: Time) -> None:
    took = iter([0.5, *[0.002, 0.001, 0.003] * ROUNDS])

    def ask() -> None:
        time.now += next(took)

    found = run(time, [Probe(ask, 3, {"best": best, "half": part(0.5)}, {"all": max})])
    assert found["best"].median == pytest.approx(1.0)
    assert found["half"].median == pytest.approx(2.0)
    assert found["half"].n == ROUNDS
    assert found["best"].n == (ROUNDS + 1) // 2
    assert found["all"].n == 3 * ROUNDS
    assert found["all"].median == pytest.approx(3.0)


def test_rounds_that_others_spoilt_do_not_show_in_what_is_best(time: Time) -> None:
    slow = iter([False, *[True, False, False, True, False, False, True][:ROUNDS]])

    def ask() -> None:
        time.now += 0.050 if next(slow) else 0.001

    found = run(time, [Probe(ask, 1, {"best": best, "half": part(0.5)})])
    assert (found["best"].median, found["best"].mad) == pytest.approx((1.0, 0.0))
    assert found["half"].n == ROUNDS


def test_rests_are_twice_as_long_as_calls(time: Time) -> None:
    run(time, [Probe(time.call(0.002), 10, {"a": best}), Probe(time.call(0.008), 5, {"b": best})])  # type: ignore[arg-type]
    worked = time.now - time.rested
    assert time.rested == pytest.approx(REST_FACTOR * worked, rel=0.01)


def test_a_slow_machine_gets_fewer_rounds_and_not_a_longer_capture(time: Time) -> None:
    found = run(time, [Probe(time.call(0.1), 20, {"slow": best})])  # type: ignore[arg-type]
    assert 1 <= found["slow"].n < ROUNDS
    assert time.now < HARD_S


def test_after_the_time_is_over_nothing_is_begun(time: Time) -> None:
    found = run(time, [Probe(time.call(HARD_S), 1, {"hangs": best}), Probe(time.call(0.1), 1, {"next": best})])  # type: ignore[arg-type]
    assert found["next"].absent == OVER
    assert time.now < 2 * HARD_S


def test_what_fails_once_is_absent_with_the_reason_and_not_asked_again(time: Time) -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise Transient("redis", "away")

    def read() -> dict[str, float]:
        raise OSError("no such device")

    gauges = (Gauge(("disk", "net"), read), Gauge(("told", "untold"), lambda: {"told": 3.0}))
    found = run(time, [Probe(ask, 5, {"ping": best}), Probe(time.call(0.001, 7.0), 1, {"ok": best})], gauges)  # type: ignore[arg-type]
    assert len(asked) == 1
    assert found["ping"].absent == "redis: away"
    assert found["disk"].absent == found["net"].absent == "no such device"
    assert (found["ok"].size, found["ok"].absent) == (7.0, None)
    assert (found["told"].median, found["told"].n) == (3.0, ROUNDS)
    assert found["untold"].absent == "this machine does not tell"


def test_what_is_left_in_the_store_is_tidied_up_after_each_round_whatever_it_answers(time: Time) -> None:
    tidied = []

    def tidy() -> None:
        tidied.append(1)
        raise Transient("store", "away")

    seen: list[tuple[int, int]] = []
    run(time, [], after_round=tidy, progress=lambda done, of: seen.append((done, of)))
    assert len(tidied) == ROUNDS + 1
    assert seen[-1] == (ROUNDS, ROUNDS)
