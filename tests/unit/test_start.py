"""What runs when a worker has started is asked for once, and a broker that is away keeps no worker from starting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kombu.exceptions import OperationalError

from beat_schedule import CLOCK
from worker.celery.bootsteps import StartStep

AT_START = [f"haul.maintenance.{name}" for name, entry in CLOCK.items() if entry.get("at_start")]


def a_parent(sent: list[str], error: Exception | None = None) -> Any:
    def send_task(name: str, args: list[bool], **_options: Any) -> None:
        if error:
            raise error
        assert args == [True]
        sent.append(name)

    return SimpleNamespace(app=SimpleNamespace(send_task=send_task), steps=[])


def test_a_worker_that_has_started_asks_for_what_runs_then() -> None:
    sent: list[str] = []
    parent = a_parent(sent)
    step = StartStep(parent)
    assert step.include_if(parent)
    step.start(parent)
    assert sent == AT_START != []


def test_a_stack_of_one_command_asks_for_nothing() -> None:
    parent = a_parent([])
    assert not StartStep(parent, lasting=False).include_if(parent)


def test_a_broker_that_is_away_keeps_no_worker_from_starting() -> None:
    parent = a_parent([], OperationalError("away"))
    StartStep(parent).start(parent)
