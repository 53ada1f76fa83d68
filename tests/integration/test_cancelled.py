"""Every job that is cancelled is counted as ended, whoever brings it about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pair import Pair
from worker.admission.control import control
from worker.jobs.states import Action, State


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    pair.turn()
    yield pair
    pair.services.close()


def cancelled(pair: Pair) -> float | None:
    return pair.services.metrics.registry.get_sample_value("haul_jobs_ended_total", {"state": "cancelled", "cause": ""})


def test_a_job_that_waits_is_counted(pair: Pair) -> None:
    [id] = pair.ask()
    for _ in range(2):
        control(pair.services, id, Action.CANCEL)
    assert (pair.job(id).state, cancelled(pair)) == (State.CANCELLED, 1)


def test_a_job_that_runs_is_counted(pair: Pair) -> None:
    [id] = pair.ask()
    pair.admit()
    control(pair.services, id, Action.CANCEL)
    assert cancelled(pair) is None, "its engine has not said so"
    pair.turn(times=2)
    assert (pair.job(id).state, cancelled(pair)) == (State.CANCELLED, 1)


def test_a_job_whose_engine_does_not_answer_is_counted(pair: Pair) -> None:
    [id] = pair.ask(1, engine="a")
    pair.admit()
    with pair.engines["a"].silent():
        pair.pass_(60)
        control(pair.services, id, Action.CANCEL)
        pair.turn()
    assert (pair.job(id).state, cancelled(pair)) == (State.CANCELLED, 1)
