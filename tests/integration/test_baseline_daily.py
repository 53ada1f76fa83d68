"""The baseline of the day, over a real store and simulated captures; and what every process tells of both baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.doors import services_on
from tests.unit.captures import NOON, System
from worker.cli.servers import Server
from worker.maintenance.baseline import keep, run, run_daily, work
from worker.maintenance.baseline.document import Capture, id_of
from worker.maintenance.standing import LedgerFigures
from worker.metrics import Metrics
from worker.ports import Services

DAY_S, HOUR_S = 86_400.0, 3_600.0
WORK = "baseline-daily"


class Days:
    """A clock, and captures of a simulated system as it is then."""

    def __init__(self, seed: int) -> None:
        self.now, self.made = NOON, 0
        self.times: dict[str, float] = {}
        self._system = System(seed, between=0.01, within=0.02)

    def time(self) -> float:
        return self.now

    def capture(self, services: Services, source: str) -> Capture:
        self.made += 1
        return replace(self._system.capture(self.times), id=id_of(self.now), at=self.now, source=source)


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> Days:
    days = Days(4)
    monkeypatch.setattr(work, "capture", days.capture)
    return days


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path, days: Days) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, api_port=0) as services:
        yield replace(services, clock=days)  # type: ignore[arg-type]


def test_the_capture_of_the_hour_serves_as_that_of_the_day_and_nothing_is_measured_twice(services: Services, days: Days) -> None:
    run(services)
    days.now += 0.5 * HOUR_S
    assert run_daily(services).ok
    assert days.made == 1
    assert [each.id for each in keep.daily(services.store, 9)] == keep.ids(keep.directory(services.settings))


def test_without_a_capture_of_this_hour_the_day_has_one_of_its_own(services: Services, days: Days) -> None:
    run(services)
    days.now += 1.5 * HOUR_S
    assert run_daily(services).ok
    assert days.made == 2
    assert [each.at for each in keep.daily(services.store, 9)] == [days.now]


def test_a_day_has_one_however_often_it_is_asked_for(services: Services, days: Days) -> None:
    for _ in range(3):
        days.now += 2 * HOUR_S
        run_daily(services)
    assert len(keep.daily(services.store, 9)) == 1


def test_what_becomes_slower_in_the_course_of_a_day_is_found_by_the_day_and_by_no_hour(services: Services, days: Days) -> None:
    hourly: list[dict[str, Any]] = []
    daily: list[list[str]] = []
    for hour in [*range(3, 7 * 24, 24), *range(7 * 24, 9 * 24)]:
        days.now = NOON + hour * HOUR_S
        days.times = {"redis.ping_ms": 1.0 + 0.4 * min(1.0, max(0, hour - 7 * 24) / 24)}
        hourly += run(services).details["worse"]
        if hour % 24 == 3:
            daily.append([each["figure"] for each in run_daily(services).details["worse"]])
    assert hourly == []
    assert daily == [[]] * 8 + [["redis.ping_ms"]]


def test_every_process_tells_the_regressions_of_both_whichever_measured(services: Services, days: Days) -> None:
    for _ in range(7):
        run_daily(services)
        days.now += DAY_S
    days.times = {"redis.ping_ms": 1.5}
    report = run_daily(services)
    assert report.ok
    for name, told in ((WORK, report), ("baseline", replace(report, figures={"regressions": 0}))):
        services.store.claim_run(name, "1", "a worker")
        services.store.end_run(name, "1", ok=told.ok, report=told.document())
    metrics = Metrics()
    LedgerFigures(metrics).set(services.store.latest_runs(("baseline", WORK), 9))
    read = metrics.registry.get_sample_value
    assert read("haul_baseline_regressions", {"work": WORK}) == 1
    assert read("haul_baseline_regressions", {"work": "baseline"}) == 0
