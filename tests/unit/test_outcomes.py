"""What a job becomes whose bytes are not those that were asked for: pure, and with a real store and real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import Machine
from tests.unit.jobs_by_hypothesis import a_job
from worker.admission.admit import admit
from worker.delivery.finish import finish
from worker.delivery.outcomes import unverified
from worker.jobs.model import Job, Request, Source, SourceKind, Transfer
from worker.jobs.retries import POLICIES
from worker.jobs.states import Cause, State
from worker.pipeline import accept

SAID = "the checksum is aa and should be bb"


def finishing(kind: SourceKind = SourceKind.HTTP, **changes: object) -> Job:
    transfer = Transfer("j1", "a", 1, "/w", 0.0)
    return a_job(state=State.FINISHING, reason=None, source=Source(kind, "x"), transfer=transfer, **changes)


def test_wrong_bytes_are_thrown_away_and_fetched_once_anew_elsewhere_if_that_can_be() -> None:
    job = unverified(finishing(), Cause.CHECKSUM, SAID, 1.0)
    assert (job.state, job.attempt, job.transfer, job.handed, job.avoid) == (State.QUEUED, 2, None, 1, ("a",))
    again = replace(job, state=State.FINISHING, transfer=Transfer("j1-1", "b", 2, "/w", 0.0))
    job = unverified(again, Cause.CHECKSUM, SAID, 2.0)
    assert (job.state, job.cause, job.message) == (State.FAILED, Cause.CHECKSUM, f"{SAID}; it was fetched 2 times")
    assert {entry.engine for entry in job.tried} == {"a", "b"}


@pytest.mark.parametrize("kind", [SourceKind.MAGNET, SourceKind.TORRENT])
def test_a_torrent_whose_pieces_were_right_is_not_fetched_anew(kind: SourceKind) -> None:
    job = unverified(finishing(kind), Cause.CHECKSUM, SAID, 1.0)
    assert (job.state, job.message) == (State.FAILED, SAID)


def test_what_is_not_whole_on_the_disk_is_tried_again_from_there_a_bounded_number_of_times() -> None:
    job, tries = finishing(), 1
    while not (job := unverified(job, Cause.INCOMPLETE, "a part is missing", 1.0)).terminal:
        assert (job.handed, job.transfer is not None) == (0, True)
        job, tries = replace(job, state=State.FINISHING), tries + 1
    assert (tries, job.cause) == (POLICIES[Cause.INCOMPLETE].tries + 1, Cause.INCOMPLETE)


def test_the_wrong_bytes_are_gone_before_the_next_try_and_the_engine_forgets_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    source = Source(SourceKind.HTTP, "http://host/x")
    [answer] = accept(machine.services, [Request(source, "u", sha256="0" * 64)])
    assert not isinstance(answer, Exception)
    id = answer.job.id
    machine.tick()
    admit(machine.services, 100)
    machine.tick()
    machine.engine.complete(machine.handle(id))
    machine.tick()
    finish(machine.services, 100)
    job = machine.job(id)
    assert (job.state, job.attempt, job.transfer) == (State.QUEUED, 2, None)
    assert not (machine.downloads / ".haul" / id).exists()

    machine._owner._leftovers._cleared_at = float("-inf")
    machine.tick()
    assert machine.engine.poll().items == {}
    admit(machine.services, 100)
    machine.tick()
    job = machine.job(id)
    assert job.state is State.DOWNLOADING
    assert job.transfer is not None
    assert job.transfer.id == f"{id}-1"
    machine.engine.complete(machine.engine.handle(f"{id}-1", 2))
    machine.tick()
    finish(machine.services, 100)
    assert machine.job(id).state is State.FAILED
    assert machine.engine.fetched["http://host/x"] == 2_000
    assert not list((machine.downloads / ".haul").glob(f"{id}*"))
    machine.services.close()
