"""Servers that want to be left alone: a real web server says so, engines do not tell it, and Haul asks once more itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.machine import Machine
from tests.origin import Origin
from worker.admission import probing
from worker.admission.admit import admit
from worker.admission.why import why
from worker.jobs.model import Job, Request, Source, SourceKind
from worker.jobs.retries import RETRY_AFTER_MAX_S
from worker.jobs.states import Action, Cause, Reason, State
from worker.pipeline import accept, control
from worker.ports import Change, Fault

BUSY = Fault(Cause.BUSY, True, "the server says there are too many requests (status 429)")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path, probe="always")
    machine.tick()
    yield machine
    machine.services.close()


def asked_for(machine: Machine, uri: str) -> str:
    [answer] = accept(machine.services, [Request(Source(SourceKind.HTTP, uri), "u", guarded=False)])
    assert not isinstance(answer, Exception), answer
    return answer.job.id


def started(machine: Machine, uri: str) -> str:
    """A job that its engine has; nothing was said of its source."""
    id = asked_for(machine, uri)
    probing.probe(machine.services, 100)
    admit(machine.services, 100)
    machine.tick()
    assert machine.job(id).state is State.DOWNLOADING
    return id


def found_busy(machine: Machine, *ids: str) -> None:
    """The engine gives the jobs up, and their source is asked."""
    for id in ids:
        machine.engine.fail(machine.handle(id), BUSY)
    machine.tick()
    assert {machine.job(id).reason for id in ids} == {Reason.PROBE}
    probing.probe(machine.services, 100)


def waits_s(machine: Machine, job: Job) -> float:
    return job.not_before - machine.now


@pytest.mark.parametrize(
    ("after", "least", "most"),
    [
        ("120", 120, 132),
        (lambda: formatdate(time.time() + 300, usegmt=True), 295, 331),
        ("9999999", RETRY_AFTER_MAX_S, RETRY_AFTER_MAX_S * 1.1),
        ("soon", 0.5, 1),
        ("", 0.5, 1),
    ],
    ids=["seconds", "a date", "far too long", "no time", "nothing"],
)
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks_within_bounds(
    machine: Machine, origin: Origin, after: object, least: float, most: float
) -> None:
    id = started(machine, origin.url("file/x"))
    replaced(machine, id, origin.url(f"status/429?after={quote(str(after() if callable(after) else after))}"))
    found_busy(machine, id)
    job = machine.job(id)
    assert (job.state, job.reason, job.attempt, job.failures) == (State.QUEUED, Reason.SCHEDULE, 2, 1)
    assert least <= waits_s(machine, job) <= most
    assert "too many requests (status 429)" in why(machine.services, id).text
    assert why(machine.services, id).retry_in_s == pytest.approx(waits_s(machine, job), abs=0.5)


def replaced(machine: Machine, id: str, uri: str) -> None:
    """Let the job's source be another one from now on; the engine in memory fetches none."""
    job = machine.job(id)
    [applied] = machine.services.store.apply([Change(job, replace(job.noted(1.0), source=Source(SourceKind.HTTP, uri)))])
    assert applied.won


def test_it_starts_again_by_itself_when_the_time_is_over_and_not_before(machine: Machine, origin: Origin) -> None:
    id = started(machine, origin.url("file/again"))
    replaced(machine, id, origin.url("status/503?after=60"))
    found_busy(machine, id)
    for seconds, state in ((59, State.QUEUED), (8, State.DOWNLOADING)):
        machine.now += seconds
        admit(machine.services, 100)
        machine.tick()
        assert machine.job(id).state is state
    machine.engine.complete(machine.handle(id))
    machine.tick()
    assert machine.job(id).state is State.FINISHING


def test_of_many_jobs_on_one_busy_host_a_few_ask_and_all_wait(machine: Machine, origin: Origin) -> None:
    ids = [started(machine, origin.url(f"file/many{n}")) for n in range(30)]
    for id in ids:
        replaced(machine, id, origin.url("status/429?after=100"))
    origin.probes.clear()
    found_busy(machine, *ids)
    jobs = [machine.job(id) for id in ids]
    assert all(95 <= waits_s(machine, job) <= 110 for job in jobs)
    assert len({job.not_before for job in jobs}) > 10, "they do not all come back at once"
    assert 1 <= origin.probes["/status/429"] <= probing.HOST_MAX


def test_a_job_whose_source_is_busy_from_the_start_reaches_no_engine_before_its_time(machine: Machine, origin: Origin) -> None:
    id = asked_for(machine, origin.url("status/503?after=50"))
    probing.probe(machine.services, 100)
    admit(machine.services, 100)
    machine.tick()
    job = machine.job(id)
    assert (job.state, job.reason, job.failures) == (State.QUEUED, Reason.SCHEDULE, 0)
    assert "wants to be left alone" in job.events[-1].text
    assert machine.engine.calls["submit"] == 0


def test_a_server_that_is_busy_and_names_no_time_is_left_to_the_engine(machine: Machine, origin: Origin) -> None:
    id = started(machine, origin.url("status/429"))
    assert machine.job(id).failures == 0


def test_a_user_who_retries_does_not_wait_for_the_server(machine: Machine, origin: Origin) -> None:
    id = started(machine, origin.url("file/user"))
    machine.engine.fail(machine.handle(id), Fault(Cause.NOT_FOUND, False, "gone"))
    machine.tick()
    control(machine.services, id, Action.RETRY)
    job = machine.job(id)
    assert (job.not_before, job.tried, job.avoid, job.failures) == (0.0, (), (), 0)
