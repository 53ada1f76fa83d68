"""Clocks that jump back while a work runs, or long after they wrote down what was never missed."""

from __future__ import annotations

from tests.integration.timetable.stage import DAY, HOUR, Opens


def test_a_run_that_a_wrong_clock_began_and_a_right_one_ended_costs_no_night(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    process, services = stage.process()
    stage.turn(services)
    stage.world.now += 1.5 * HOUR
    process.skew = 300 * DAY  # a machine without a clock of its own, before it was told the time

    def told() -> None:
        process.skew = 0.0

    stage.world.fate = told
    stage.turn(services)
    assert stage.world.runs == 1
    ran = []
    for _ in range(3):
        stage.world.now += DAY
        stage.turn(services)
        ran.append(stage.world.runs)
    assert ran == [2, 3, 4]


def test_nights_that_a_wrong_clock_called_missed_are_run_when_they_come_however_many_they_were(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    process, services = stage.process()
    stage.turn(services)
    process.skew = 99 * DAY
    stage.turn(services)
    process.skew = 0.0
    stage.world.now += 1.5 * HOUR
    ran = []
    for _ in range(3):
        before = stage.world.runs
        stage.turn(services)
        stage.turn(services)
        ran.append(stage.world.runs - before)
        stage.world.now += DAY
    assert ran == [1] * 3
