"""The Celery application with a schedule that has something to send every second, for `celery -A tests.faults.quick_beat beat`."""

from __future__ import annotations

from worker.celery import create_app
from worker.settings import load

app = create_app(load().connected())
app.conf.beat_schedule = {"often": {"task": "haul.sweep", "schedule": 1.0, "options": {"queue": "haul.control"}}}
