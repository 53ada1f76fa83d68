"""A slot is run once, caught up inside its window, or recorded as missed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.integration.timetable.stage import DAY, HOUR, MINUTE, Opens, Process, World
from tests.machine import services_of
from worker.jobs.errors import Transient
from worker.maintenance.past import result_of
from worker.maintenance.report import Report
from worker.maintenance.schedule import BORN, Entry
from worker.maintenance.standing import standings
from worker.maintenance.timetable import Timetable
from worker.ports import Services
from worker.store import open_store
from worker.store.sqlite.store import SqliteStore


def test_beats_that_look_at_the_same_moment_run_a_slot_once(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    fleet = [stage.process() for _ in range(4)]
    stage.turn(fleet[0][1])
    stage.world.now += 1.6 * HOUR
    together = threading.Barrier(len(fleet))

    def run(services: Services) -> None:
        together.wait()
        stage.turn(services)

    threads = [threading.Thread(target=run, args=(services,)) for _, services in fleet]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.results() == ["ok"]
    assert stage.world.runs == 1


def test_on_a_database_of_many_machines_a_slot_is_run_once_too(mongo_url: str, tmp_path: Path) -> None:
    world = World(datetime(2026, 5, 1, 1, tzinfo=ZoneInfo("UTC")).timestamp())
    ran = []

    def work(services: Services) -> Report:
        ran.append(services.owner)
        return Report(True, "done")

    entry = Entry("night", "30 2 * * *", 4 * HOUR, "records", ZoneInfo("UTC"))
    timetable = Timetable({"night": entry}, {"night": work}, {})
    with closing(open_store(mongo_url)) as store:
        fleet = [replace(services_of(tmp_path, store, []), clock=Process(world, store), owner=f"p{n}") for n in range(4)]
        timetable.look(fleet[0])
        world.now += 1.6 * HOUR
        with ThreadPoolExecutor(len(fleet)) as pool:
            answers = list(pool.map(lambda services: timetable.run_due(services, "night"), fleet))
        assert answers.count(True) == len(ran) == 1
        world.now += 5 * HOUR
        store.claim_run("night", "2026-05-02T02:30:00Z", "died")
        world.now += 20 * HOUR
        assert timetable.look(fleet[1]) == ["night"]
        assert timetable.run_due(fleet[1], "night") is True
        assert [result_of(line) for line in store.runs("night", 9)] == ["ok", "died", "ok", BORN]


def test_a_slot_over_which_everybody_was_dead_is_caught_up_inside_its_window_and_recorded_after_it(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    stage.world.now += 5 * HOUR  # 06:00, of a window until 06:30
    stage.turn(services)
    assert stage.results() == ["ok"]
    stage.world.now += DAY + HOUR
    stage.turn(services)
    assert stage.results() == ["ok", "missed"]
    stage.turn(services)
    assert [line.slot for line in stage.lines()] == ["2026-05-01T02:30:00Z", "2026-05-02T02:30:00Z"], "once"
    standing = next(each for each in standings(services, stage.timetable) if each.name == "night")
    assert (standing.ok, standing.missed, result_of(standing.last or stage.lines()[0])) == (False, 1, "missed")


def test_a_store_that_was_down_at_the_slot_is_asked_again_and_the_slot_run(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    stage.world.now += 1.5 * HOUR
    stage.world.store_up = False
    with pytest.raises(Transient):
        stage.turn(services)
    stage.world.store_up = True
    stage.world.now += HOUR
    stage.turn(services)
    assert stage.results() == ["ok"]


def test_works_of_one_lane_never_run_at_the_same_time_and_those_of_another_do(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    (_, one), (_, other) = stage.process(), stage.process()
    seen: list[object] = []

    def meanwhile() -> None:
        seen.append(stage.timetable.run_now(other, "night"))
        seen.append(stage.timetable.run_now(other, "hourly"))

    stage.world.fate = meanwhile
    report = stage.timetable.run_now(one, "night")
    assert report is not None
    assert seen == [None, Report(True, "done")]


def test_a_new_installation_records_no_miss_and_runs_what_is_not_to_wait_alone(opens: Opens) -> None:
    stage = opens("2026-05-01T05:00", first=True)
    _, services = stage.process()
    stage.turn(services)
    stage.turn(services)
    assert stage.results() == ["ok"], "the night of before, for it is not to wait"
    assert stage.results("hourly") == []
    stage.world.now += 10 * MINUTE
    stage.turn(services)
    assert stage.results("hourly") == ["ok"]


def test_a_new_installation_after_the_window_waits_for_the_next_slot(opens: Opens) -> None:
    stage = opens("2026-05-01T12:00", first=True)
    _, services = stage.process()
    stage.turn(services)
    assert stage.results() == []


def test_a_run_of_a_person_takes_no_slot(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    assert stage.timetable.run_now(services, "night") == Report(True, "done")
    stage.world.now += 1.5 * HOUR
    stage.turn(services)
    assert [line.slot for line in stage.lines()] == ["manual:2026-05-01T01:00:00Z", "2026-05-01T02:30:00Z"]


def test_workers_that_start_together_run_what_runs_at_a_start_once(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    fleet = [stage.process() for _ in range(3)]
    ran = [stage.timetable.run_at_start(services, "night") for _, services in fleet]
    assert ran == [True, None, None]
    stage.world.now += 600
    assert stage.timetable.run_at_start(fleet[1][1], "night") is True


def test_everybody_sees_the_same_figures(opens: Opens) -> None:
    from worker.maintenance.standing import LedgerFigures

    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    figures = LedgerFigures(services.metrics)
    stage.world.now += 1.5 * HOUR
    stage.turn(services)
    figures.set(services.store.latest_runs(("night",), 60))
    stage.world.now += 2 * DAY
    stage.turn(services)
    for _ in range(2):
        figures.set(services.store.latest_runs(("night", "hourly"), 60))
    read = services.metrics.registry.get_sample_value
    runs = {result: read("haul_maintenance_runs_total", {"work": "night", "outcome": result}) for result in ("ok", "missed", "failed")}
    assert runs == {"ok": 2, "missed": 1, "failed": None}
    assert read("haul_maintenance_ok", {"work": "night"}) == 1
    assert read("haul_maintenance_last_success_timestamp_seconds", {"work": "night"}) == stage.lines()[-1].report["at"]


def test_a_store_opened_again_goes_on_with_the_same_ledger(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    stage.world.now += 1.5 * HOUR
    stage.turn(services)
    with closing(SqliteStore(stage.directory / "haul.db", clock=lambda: stage.world.now)) as again:
        other = replace(services, store=again)
        assert stage.timetable.look(other) == []
