"""Users who ask a machine for one content, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import MAGNET, Machine
from worker.admission.admit import admit
from worker.delivery.finish import finish
from worker.engines.fake import content_of
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.states import State
from worker.pipeline import accept, sweep

BYTES = content_of(Source(SourceKind.MAGNET, MAGNET))


def ask(machine: Machine, user: str = "ann", uri: str = MAGNET, kind: SourceKind = SourceKind.MAGNET, **request: Any) -> str:
    """A recorded job; nothing moves yet."""
    [answer] = accept(machine.services, [Request(Source(kind, uri), user, **request)])
    assert not isinstance(answer, Exception), answer
    return answer.job.id


def turn(machine: Machine, times: int = 2) -> None:
    """Everybody has a turn, so that whatever can go on does."""
    for _ in range(times):
        machine.tick()
        sweep(machine.services)
        admit(machine.services, 100)
        machine.tick()
        finish(machine.services, 100)
        machine._owner._leftovers._cleared_at = float("-inf")


def asked(machine: Machine, count: int, **request: Any) -> list[str]:
    """Jobs of as many users for the same content, the first of which downloads."""
    ids = [ask(machine, f"user-{n}", **request) for n in range(count)]
    turn(machine)
    return sorted(ids, key=lambda id: machine.job(id).state is not State.DOWNLOADING)


def complete(machine: Machine) -> None:
    for handle in machine.engine.poll().items:
        machine.engine.complete(handle)


def placed(machine: Machine) -> None:
    """The bytes are here, the file of the one who downloaded is in place, and the process dies: those who waited are guests."""
    complete(machine)
    machine.tick()
    with pytest.raises(FailpointHit):
        finish(replace(machine.services, failpoints=Failpoints("finish.recorded:raise:1")), 100)


def breaks_at(machine: Machine, point: str) -> None:
    """The process dies at this point, once; then it is another one."""
    machine.services = replace(machine.services, failpoints=Failpoints(f"{point}:raise:1"))
    machine.take_over()
    with pytest.raises(FailpointHit):
        turn(machine, 3)
    machine.services = replace(machine.services, failpoints=Failpoints(""))
    machine.take_over()


def check_delivered(machine: Machine, ids: list[str], fetched: int = 1) -> None:
    """Each has a file of its own with the right bytes, and nothing is left."""
    for id in ids:
        job = machine.job(id)
        assert (job.state, job.seeding) == (State.DONE, False), job.events
        assert job.result is not None
        path = Path(job.result.path)
        assert path.parent == machine.downloads / id
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
        assert path.read_bytes() == BYTES
        assert [event.type for event in job.events if event.type][-1] == "job.completed"
        assert sum(event.type == "job.completed" for event in job.events) == 1
    assert sum(machine.engine.fetched.values()) == fetched * len(BYTES)
    machine._owner._leftovers._cleared_at = float("-inf")
    machine.seen_anew()
    assert machine.engine.poll().items == {}
    assert not list((machine.downloads / ".haul").glob("*"))
