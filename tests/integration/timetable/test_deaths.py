"""A run whose process dies, stands still, or raises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.timetable.stage import HOUR, Killed, Opens, dies
from worker.failpoints import FailpointHit, Failpoints
from worker.maintenance.past import result_of


def test_a_run_whose_process_died_is_found_and_begun_again_when_its_lease_has_run_out(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    (doomed, first), (_, second) = stage.process(), stage.process()
    stage.turn(first)
    stage.world.now += 1.5 * HOUR
    stage.world.fate = dies(doomed)
    with pytest.raises(Killed):
        stage.turn(first)
    stage.turn(second)
    assert stage.results() == ["running"], "its lease may be somebody's who is slow"
    stage.world.now += 31
    stage.turn(second)
    assert stage.results() == ["died", "ok"]
    assert [line.slot for line in stage.lines()] == ["2026-05-01T02:30:00Z", "2026-05-01T02:30:00Z#2"]


def test_a_work_that_kills_its_process_each_time_is_begun_three_times_and_not_again(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    process, services = stage.process()
    stage.turn(services)
    stage.world.now += 1.5 * HOUR
    for _ in range(5):
        stage.world.fate = dies(process)
        try:
            stage.turn(services)
        except Killed:
            process.alive = True
        stage.world.now += 31
    assert stage.results() == ["died", "died", "died"]


def test_one_that_stood_still_and_was_given_up_does_not_change_what_was_recorded_of_it(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    (_, slow), (_, quick) = stage.process(), stage.process()
    stage.turn(slow)
    stage.world.now += 1.5 * HOUR

    def stands_still() -> None:
        stage.world.now += 60
        stage.turn(quick)

    stage.world.fate = stands_still
    stage.turn(slow)
    assert stage.results() == ["died", "ok"]
    assert [line.owner for line in stage.lines()] == ["p0", "p1"]


def test_what_a_work_raises_is_recorded_without_its_words_and_tried_again_later(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    stage.world.now += 1.5 * HOUR

    def fails() -> None:
        raise RuntimeError("mongodb://user:password@host")

    stage.world.fate = fails
    stage.turn(services)
    [line] = stage.lines()
    assert result_of(line) == "failed"
    assert "password" not in str(line.report)
    stage.turn(services)
    assert len(stage.lines()) == 1
    stage.world.now += 301
    stage.turn(services)
    assert stage.results() == ["failed", "ok"]


@pytest.mark.parametrize("point", ["maintenance.claimed", "maintenance.done"])
def test_a_run_that_is_broken_off_says_so_at_once(opens: Opens, point: str) -> None:
    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    stage.world.now += 1.5 * HOUR
    broken = replace(services, failpoints=Failpoints(f"{point}:raise:1"))
    with pytest.raises(FailpointHit):
        stage.turn(broken)
    assert stage.results() == ["running"]
    stage.turn(services)
    assert stage.results() == ["died", "ok"], "its lane was let go"
