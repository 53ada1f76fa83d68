"""The schedule names tasks and queues that exist."""

from __future__ import annotations

import ast
import sys
from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab

from beat_schedule import BEAT_SCHEDULE
from tests.tidy.sources import ROOT
from worker.celery import HaulApp, create_app
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
            "haul.enqueue",
        )
    )


def test_the_schedule_is_data_that_needs_none_of_our_code() -> None:
    tree = ast.parse((ROOT / "beat_schedule.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.split(".")[0] not in {"celery", *sys.stdlib_module_names}} == set()


def _period_s(schedule: Any) -> float:
    """The shortest time between two runs."""
    if isinstance(schedule, crontab):
        return 60.0
    return schedule.total_seconds() if isinstance(schedule, timedelta) else float(schedule)
