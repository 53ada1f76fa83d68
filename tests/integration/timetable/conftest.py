"""Works by the clock over a real store, with the time given by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.integration.timetable.stage import HOUR, MINUTE, Opens, Stage, World
from worker.maintenance.report import Report
from worker.maintenance.schedule import Entry
from worker.maintenance.timetable import Timetable
from worker.store.sqlite.store import SqliteStore


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
