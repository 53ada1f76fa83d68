"""A night over which a service was away for a moment has its backup all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.backups import Installation
from tests.integration.timetable.stage import HOUR
from tests.machine import services_of
from worker.jobs.errors import Transient
from worker.maintenance.backup.catalogue import Shelf
from worker.maintenance.past import result_of
from worker.maintenance.timetable import Timetable
from worker.ports import Archive, Dump, Services, Spend, Wait, unseen
from worker.store import open_archive
from worker.store.sqlite.store import SqliteStore

CLOCK: Mapping[str, Mapping[str, Any]] = {"backup": {"cron": "0 2 * * *", "window_s": 16 * HOUR, "lane": "records"}}


class Clock:
    """One for the store and for the wall."""

    now = 1_780_021_000.0  # a quarter past two in the night

    def time(self) -> float:
        return self.now


class Flaky:
    """An archive whose server is away once."""

    kind, keeps_aside = "sqlite", True

    def __init__(self, inner: Archive) -> None:
        self._inner, self._away = inner, True

    def dump(self, scratch: Path, spend: Spend, wait: Wait = unseen) -> Dump:
        if self._away:
            self._away = False
            raise Transient("store", "does not answer")
        return self._inner.dump(scratch, spend, wait)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nightly(tmp_path: Path, clock: Clock) -> Iterator[Services]:
    here = Installation(tmp_path, jobs=1)
    with closing(SqliteStore(here.file, clock=clock.time)) as store:
        services = services_of(here.data, store, [], settings={"backup_rate": 0}, archive=open_archive(here.url))
        yield replace(services, clock=clock)


def turn(services: Services, clock: Clock, later_s: float) -> list[str]:
    clock.now += later_s
    timetable = Timetable.of(CLOCK, services)
    for name in timetable.look(services):
        timetable.run_due(services, name)
    return [result_of(line) for line in services.store.runs("backup", 10)][::-1]


def test_a_store_that_went_away_while_it_was_read_is_asked_again_in_the_same_night(nightly: Services, clock: Clock) -> None:
    assert nightly.archive is not None
    flaky = replace(nightly, archive=Flaky(nightly.archive))  # type: ignore[arg-type]
    turn(flaky, clock, 0.0)
    assert turn(flaky, clock, 24 * HOUR) == ["born", "failed"]
    assert turn(flaky, clock, 400.0) == ["born", "failed", "ok"]


def test_a_night_whose_directory_somebody_else_works_in_comes_after_him(nightly: Services, clock: Clock) -> None:
    turn(nightly, clock, 0.0)
    with Shelf(nightly.settings.data_dir / "backups").held():
        assert turn(nightly, clock, 24 * HOUR) == ["born", "failed"]
    assert turn(nightly, clock, 400.0) == ["born", "failed", "ok"]
