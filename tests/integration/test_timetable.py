"""Works by the clock over a real store, with the time given by hand: nights in seconds, and everything that may be dead at a slot."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.machine import services_of
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.errors import Transient
from worker.maintenance.report import Report
from worker.maintenance.schedule import BORN, Entry, is_birth, slot_time
from worker.maintenance.standing import result_of, standings
from worker.maintenance.timetable import Timetable
from worker.ports import Run, Services
from worker.store import open_store
from worker.store.sqlite.store import SqliteStore

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
STEP = 20 * MINUTE


class Killed(BaseException):
    """The process is gone: nothing of it runs any more, no `finally` either, for the store takes nothing from it."""


@dataclass
class World:
    """The time, and what of the world is there."""

    now: float
    store_up: bool = True
    runs: int = 0
    #: What happens in the work that runs next.
    fate: Callable[[], None] = lambda: None


@dataclass
class Process:
    """One that looks and runs, with a wall clock of its own and a hand on the store that can be cut off."""

    world: World
    store: Any
    skew: float = 0.0
    alive: bool = True

    def time(self) -> float:
        return self.world.now + self.skew

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if not self.alive:
                raise Killed
            if not self.world.store_up:
                raise Transient("store", "is away")
            return getattr(self.store, name)(*args, **options)

        return call


@dataclass
class Stage:
    """Some processes on one store, and their timetable."""

    world: World
    store: SqliteStore
    directory: Path
    timetable: Timetable
    processes: list[tuple[Process, Services]] = field(default_factory=list)

    def process(self, skew: float = 0.0) -> tuple[Process, Services]:
        process = Process(self.world, self.store, skew)
        directory = self.directory / f"p{len(self.processes)}"
        directory.mkdir()
        services = replace(services_of(directory, self.store, []), store=process, clock=process, owner=f"p{len(self.processes)}")  # type: ignore[arg-type]
        self.processes.append((process, services))
        return self.processes[-1]

    def work(self, services: Services) -> Report:
        fate, self.world.fate = self.world.fate, lambda: None
        fate()
        services.clock.time()
        self.world.runs += 1
        return Report(True, "done")

    def turn(self, services: Services) -> None:
        """What a worker does in a minute."""
        for name in self.timetable.look(services):
            self.timetable.run_due(services, name)

    def lines(self, name: str = "night") -> list[Run]:
        return [line for line in self.store.runs(name, 10_000) if not is_birth(line.slot)][::-1]

    def results(self, name: str = "night") -> list[str]:
        return [result_of(line) for line in self.lines(name)]


Opens = Callable[..., Stage]


@pytest.fixture
def opens(tmp_path: Path) -> Iterator[Opens]:
    """Makes a stage that begins at a time of day in a zone."""
    stores = []

    def stage(begin: str, *, zone: str = "UTC", cron: str = "30 2 * * *", window_s: float = 4 * HOUR, first: bool = False) -> Stage:
        world = World(datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone)).timestamp())
        store = SqliteStore(tmp_path / "haul.db", clock=lambda: world.now)
        stores.append(store)
        made = Stage(world, store, tmp_path, Timetable({}, {}, {}))
        entry = Entry("night", cron, window_s, "records", ZoneInfo(zone), first=first)
        hourly = Entry("hourly", "5 * * * *", 45 * MINUTE, "figures", ZoneInfo(zone))
        made.timetable = Timetable({"night": entry, "hourly": hourly}, {"night": made.work, "hourly": lambda _: Report(True, "done")}, {})
        return made

    yield stage
    for store in stores:
        store.close()


MONTHS = [
    ("Europe/Berlin", "2026-03-10T12:00", 30),
    ("Europe/Berlin", "2026-10-10T12:00", 30),
    ("America/New_York", "2026-03-01T12:00", 12),
    ("America/New_York", "2026-10-25T12:00", 12),
    ("Australia/Lord_Howe", "2026-09-27T12:00", 12),
    ("Australia/Lord_Howe", "2026-03-29T12:00", 12),
]


@pytest.mark.parametrize(("zone", "begin", "days"), MONTHS)
def test_in_a_month_with_a_change_of_the_clock_each_slot_has_one_run_or_a_recorded_miss_whatever_is_dead(
    opens: Opens, zone: str, begin: str, days: int
) -> None:
    stage, chance = opens(begin, zone=zone), random.Random(zone + begin)
    world, birth = stage.world, None
    fleet = [stage.process(skew=skew) for skew in (-20.0, 0.0, 25.0)]
    down: dict[str, float] = {}
    served: list[tuple[float, float]] = []
    end = world.now + days * DAY
    while world.now < end:
        for what in ("store", "redis", "0", "1", "2"):
            if world.now >= down.get(what, 0.0) and chance.random() < 0.01:
                down[what] = world.now + chance.choice([STEP, HOUR, 3 * HOUR, 9 * HOUR, 40 * HOUR])
        world.store_up = world.now >= down.get("store", 0.0)
        for number in chance.sample(range(3), 3):
            process, services = fleet[number]
            if world.now < down.get(str(number), 0.0) or world.now < down.get("redis", 0.0) or chance.random() < 0.6:
                continue
            if chance.random() < 0.1:
                world.fate = chance.choice([_dies(process), _finds_a_service_away])
            try:
                if chance.random() < 0.3:  # beat's own message comes first, and twice
                    stage.timetable.run_due(services, "night")
                stage.turn(services)
                birth = birth or process.time()
                served.append((world.now, process.skew))
            except Transient:
                assert not world.store_up
            except Killed:
                process.alive = True  # another one under its name
        world.now += STEP
    world.store_up, world.fate = True, lambda: None
    stage.turn(stage.process()[1])
    assert birth is not None
    for entry in stage.timetable.entries.values():
        expected = [slot for slot in entry.slots(birth + 60, world.now) if slot + entry.window_s < world.now]
        _check(stage, entry, expected, served)
    nights = list(stage.timetable.entries["night"].slots(birth + 60, world.now))
    dates = [datetime.fromtimestamp(slot, ZoneInfo(zone)).date() for slot in nights]
    assert [(date - dates[0]).days for date in dates] == list(range(len(dates))), "a night has one slot, each night"
    assert "ok" in stage.results()
    assert "missed" in stage.results() or days < 30


def _check(stage: Stage, entry: Entry, expected: list[float], served: list[tuple[float, float]]) -> None:
    lines = stage.lines(entry.name)
    by_slot: dict[float, list[Run]] = {}
    for line in lines:
        by_slot.setdefault(slot_time(line.slot) or 0.0, []).append(line)
    assert set(expected) <= set(by_slot), "each slot is in the ledger"
    assert max(Counter(line.slot for line in lines).values()) == 1
    for slot, tries in by_slot.items():
        results = [result_of(line) for line in tries]
        assert results.count("ok") + results.count("missed") <= 1, (slot, results)
        assert len(tries) <= 3
        assert "missed" not in results or len(tries) == 1
        if slot in expected and "missed" in results:
            # Whoever looked inside the window would have run it; at its very end the clocks of two processes may disagree.
            assert not [at for at, skew in served if 0 <= at + skew - slot <= entry.window_s - 60], "it could have been caught up"


def _dies(process: Process) -> Callable[[], None]:
    def fate() -> None:
        process.alive = False
        raise Killed

    return fate


def _finds_a_service_away() -> None:
    raise Transient("redis", "is away")


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


def test_a_run_whose_process_died_is_found_and_begun_again_when_its_lease_has_run_out(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    (doomed, first), (_, second) = stage.process(), stage.process()
    stage.turn(first)
    stage.world.now += 1.5 * HOUR
    stage.world.fate = _dies(doomed)
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
        stage.world.fate = _dies(process)
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


def test_a_store_opened_again_goes_on_with_the_same_ledger(opens: Opens) -> None:
    stage = opens("2026-05-01T01:00")
    _, services = stage.process()
    stage.turn(services)
    stage.world.now += 1.5 * HOUR
    stage.turn(services)
    with closing(SqliteStore(stage.directory / "haul.db", clock=lambda: stage.world.now)) as again:
        other = replace(services, store=again)
        assert stage.timetable.look(other) == []
