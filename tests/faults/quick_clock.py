"""The Celery application with that work: `celery -A tests.faults.quick_clock beat|worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import Task

from tests.faults.quick_work import NAME, entry, work
from worker.celery import create_app
from worker.maintenance.timetable import Timetable
from worker.settings import load

app = create_app(load().connected())
app.conf.beat_schedule = {
    "often": {"task": "haul.quick", "schedule": 1.0, "options": {"queue": "haul.maintenance", "expires": 5}},
}


@app.task(name="haul.quick", bind=True)
def quick(self: Task[Any, Any]) -> None:
    """What `haul.maintenance.*` do."""
    timetable = Timetable({NAME: entry(os.environ["QUICK_SECONDS"])}, {NAME: work}, {})
    timetable.run_due(app.services.get(), NAME)
