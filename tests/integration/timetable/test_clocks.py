"""Clocks that were wrong for a while."""

from __future__ import annotations

from tests.integration.timetable.stage import DAY, HOUR, Opens


def test_a_clock_that_was_a_week_ahead_for_a_while_costs_no_night(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    process, services = stage.process()
    stage.turn(services)
    process.skew = 7 * DAY
    stage.turn(services)
    assert set(stage.results()) == {"missed"}
    process.skew = 0.0
    ran = []
    for _ in range(9):
        stage.world.now += 1.5 * HOUR
        before = stage.world.runs
        stage.turn(services)
        stage.turn(services)
        ran.append(stage.world.runs - before)
        stage.world.now += DAY - 1.5 * HOUR
    assert ran == [1] * 9


def test_a_work_that_was_born_by_a_clock_that_was_wrong_is_due_all_the_same(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    process, services = stage.process(skew=300 * DAY)
    stage.turn(services)
    process.skew = 0.0
    stage.turn(services)
    stage.world.now += 1.5 * HOUR
    stage.turn(services)
    assert stage.results()[-1] == "ok"
