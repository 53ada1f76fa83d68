"""`celery -A tests.faults.impatient`: Haul's application with messages that come back after two seconds; it notes what runs.

`HAUL_DATA_DIR/ran` has a line for each start of a task: its name and its message's id.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from celery.signals import task_prerun

from worker.celery import HaulApp, create_app
from worker.settings import load

VISIBILITY_S = 2


@cache
def _app() -> HaulApp:
    app = create_app(load().connected())
    quick = {**app.conf.broker_transport_options, "visibility_timeout": VISIBILITY_S, "unacked_restore_interval": 1}
    app.conf.update(visibility_timeout=VISIBILITY_S, broker_transport_options=quick, result_backend_transport_options=quick)
    task_prerun.connect(_note, weak=False)
    return app


def __getattr__(name: str) -> Any:
    """`app`, made from the environment when Celery's command line asks for it."""
    if name == "app":
        return _app()
    raise AttributeError(name)


def _note(task_id: str, task: Any, **_options: Any) -> None:
    with _ran(load().data_dir).open("a") as notes:
        notes.write(f"{task.name} {task_id}\n")


def ran(directory: Path) -> Counter[tuple[str, str]]:
    """How often each message was worked on, by task and id."""
    notes = _ran(directory)
    lines = notes.read_text().splitlines() if notes.exists() else []
    return Counter((line.split()[0], line.split()[1]) for line in lines)


def _ran(directory: Path) -> Path:
    return directory / "ran"
