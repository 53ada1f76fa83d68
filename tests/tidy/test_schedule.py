"""The schedule names tasks and queues that exist."""

from __future__ import annotations

import ast
import sys
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from celery.schedules import crontab

from beat_schedule import BEAT_SCHEDULE, CLOCK
from tests.tidy.sources import ROOT
from worker.celery import HaulApp, create_app
from worker.maintenance.schedule import entries
from worker.maintenance.works import REHEARSALS, WORKS
from worker.settings import load


@pytest.fixture(scope="module")
def app() -> HaulApp:
    """The application with its tasks; nothing listens on its broker's port."""
    app = create_app(load(redis_url="redis://127.0.0.1:1/0", engines=()))
    app.loader.import_default_modules()
    app.finalize()
    return app


@pytest.mark.parametrize("name", BEAT_SCHEDULE)
def test_an_entry_runs_a_task_that_exists_on_its_queue(app: HaulApp, name: str) -> None:
    entry = BEAT_SCHEDULE[name]
    assert entry["task"] in app.tasks
    assert entry["options"]["queue"] in app.amqp.queues
    routed = app.amqp.router.route({}, entry["task"])["queue"]
    assert routed.name == entry["options"]["queue"], "a nudge for the same step goes to another queue"


@pytest.mark.parametrize("name", BEAT_SCHEDULE)
def test_an_entry_that_was_late_gives_way_to_the_next(name: str) -> None:
    entry = BEAT_SCHEDULE[name]
    assert entry["options"]["expires"] < _period_s(entry["schedule"])


def test_every_task_of_ours_is_a_step_or_a_door(app: HaulApp) -> None:
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert {name for name in ours if not name.startswith("haul.")} == set()
    assert all(
        name in ours
        for name in (
            "haul.intake",
            "haul.describe",
            "haul.probe",
            "haul.admit",
            "haul.start",
            "haul.finish",
            "haul.notify",
            "haul.sweep",
            "haul.clock",
            *(f"haul.maintenance.{name}" for name in CLOCK),
            "haul.enqueue",
        )
    )


def test_the_schedule_is_data_that_needs_none_of_our_code() -> None:
    tree = ast.parse((ROOT / "beat_schedule.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.split(".")[0] not in {"celery", *sys.stdlib_module_names}} == set()


def test_each_work_is_in_the_schedule_and_nothing_else_is() -> None:
    assert set(WORKS) == set(CLOCK)
    assert set(REHEARSALS) <= set(WORKS)
    assert {f"haul.maintenance.{name}" for name in CLOCK} | {"haul.sweep", "haul.clock"} == {
        entry["task"] for entry in BEAT_SCHEDULE.values()
    }


@pytest.mark.parametrize("name", CLOCK)
def test_a_window_ends_before_the_next_slot_and_lasts_longer_than_a_look(name: str) -> None:
    for zone in ("UTC", "Europe/Berlin", "Australia/Lord_Howe"):
        entry = entries(CLOCK, zone)[name]
        year = list(entry.slots(1_767_225_600.0, 1_767_225_600.0 + 366 * 86_400))
        period = min((later - slot for slot, later in pairwise(year)), default=0.0)
        assert 2 * 60 < entry.window_s < period
        assert set(CLOCK[name]) <= {"cron", "window_s", "lane", "first", "at_start"}


def _period_s(schedule: Any) -> float:
    """The shortest time between two runs."""
    if isinstance(schedule, crontab):
        year = list(
            entries(CLOCK, "UTC")[next(name for name in CLOCK if BEAT_SCHEDULE[name]["schedule"] is schedule)].slots(0.0, 366 * 86_400)
        )
        return min(later - slot for slot, later in pairwise(year))
    return schedule.total_seconds() if isinstance(schedule, timedelta) else float(schedule)
