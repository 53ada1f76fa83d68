"""What an owner puts right between records and an engine: once, counted, and only beside the normal path; and how it waits for space."""

from __future__ import annotations

import pytest

from tests.machine import MAGNET, Machine
from worker.admission.admit import admit
from worker.delivery.finish import finish
from worker.engines.volume import NO_SPACE
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.states import Action, Reason, State
from worker.limits import SUBMIT_WINDOW_S
from worker.pipeline import accept, control, sweep
from worker.ports import ItemStatus
from worker.supervision import submission
from worker.supervision.settle import SPACE_RETRY_S


def counted(machine: Machine) -> dict[str, float]:
    """Corrections made, by action."""
    [metric] = machine.services.metrics.reconciled.collect()
    return {sample.labels["action"]: sample.value for sample in metric.samples if sample.name.endswith("_total") and sample.value}


def paused(machine: Machine) -> str:
    """A job that is paused, and known to the engine."""
    id = machine.ask()
    control(machine.services, id, Action.PAUSE)
    machine.tick(2)
    assert machine.job(id).state is State.PAUSED
    return id


def test_a_job_from_start_to_end_needs_no_correction(machine: Machine) -> None:
    id = paused(machine)
    control(machine.services, id, Action.RESUME)
    admit(machine.services, 10)
    machine.tick(2)
    machine.engine.complete(machine.handle(id))
    machine.tick()
    finish(machine.services, 10)
    machine._owner._leftovers._cleared_at = float("-inf")
    machine.tick()
    machine.seen_anew()
    assert machine.job(id).state is State.DONE
    assert counted(machine) == {}


def test_what_the_engine_was_given_by_a_dead_process_is_adopted_before_a_second_order_may_be_given(machine: Machine) -> None:
    [answer] = accept(machine.services, [Request(Source(SourceKind.MAGNET, MAGNET), "u")])
    assert not isinstance(answer, Exception)
    machine.tick()
    admit(machine.services, 1)
    job = machine.job(answer.job.id)
    machine.engine.submit(submission.orders(machine.services, [job]))
    machine.now += SUBMIT_WINDOW_S + 0.1
    machine.take_over()
    machine.tick()
    assert machine.job(job.id).state is State.DOWNLOADING
    assert machine.engine.calls["submit"] == 1
    assert counted(machine) == {"adopt": 1}


def test_what_the_engine_lost_is_handed_over_again_and_counted_once(machine: Machine) -> None:
    id = machine.ask()
    machine.engine.restart(keep=False)
    machine.tick(3)
    assert machine.job(id).state is State.DOWNLOADING
    assert counted(machine) == {"resubmit": 1}
    assert [event.type for event in machine.job(id).events if event.type] == ["job.queued", "job.started"], "a start is told once"


def test_a_pause_and_a_start_at_the_engine_are_undone_and_counted_once_however_long_it_takes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, stands = machine.ask(MAGNET.replace("a1", "b2")), paused(machine)
    machine.engine._work[machine.handle(runs)].status = ItemStatus.PAUSED
    machine.engine._work[machine.handle(stands)].status = ItemStatus.RUNNING
    with monkeypatch.context() as deaf:
        deaf.setattr(machine.engine, "pause", lambda handles: None)
        machine.tick(3)
    machine.tick(2)
    items = machine.engine.poll().items
    assert items[machine.handle(runs)].status is ItemStatus.RUNNING
    assert items[machine.handle(stands)].status is ItemStatus.PAUSED
    assert counted(machine) == {"resume": 1, "stop": 1}


def test_a_paused_job_whose_bytes_are_all_here_is_finished(machine: Machine) -> None:
    id = paused(machine)
    machine.engine.complete(machine.handle(id))
    machine.tick()
    assert machine.job(id).state is State.FINISHING
    assert counted(machine) == {"finish": 1}


def test_items_without_a_job_and_those_of_jobs_that_ended_are_told_apart(machine: Machine) -> None:
    id = machine.ask()
    [order] = submission.orders(machine.services, [machine.job(id)])
    control(machine.services, id, Action.CANCEL)
    machine.tick()
    machine.engine.submit([order])
    lost = str(machine.downloads / ".haul" / "nobody" / "fake")
    machine.engine.submit([type(order)("nobody", 1, Source(SourceKind.MAGNET, MAGNET + "0"), lost)])
    machine.seen_anew()
    assert machine.engine.poll().items == {}
    assert counted(machine) == {"forget": 1, "orphan": 1, "delete": 1}


def test_a_waiting_index_that_was_lost_is_counted_when_a_sweep_makes_it_anew(machine: Machine) -> None:
    [answer] = accept(machine.services, [Request(Source(SourceKind.MAGNET, MAGNET), "u")])
    assert not isinstance(answer, Exception)
    sweep(machine.services)
    assert counted(machine) == {}
    machine.services.coordinator.drop_waiting([answer.job.id])
    sweep(machine.services)
    assert counted(machine) == {"index": 1}
    assert machine.services.coordinator.waiting_size() == 1


def test_an_engine_that_its_owner_finds_silent_is_not_asked_for_files(machine: Machine) -> None:
    id = machine.ask()
    machine.engine.complete(machine.handle(id))
    machine.tick()
    assert machine.job(id).state is State.FINISHING
    machine._owner._board.share(None, "engine fake: no answer in time")
    finish(machine.services, 10)
    assert machine.job(id).state is State.FINISHING
    assert machine.engine.calls["files"] == 0
    machine.tick()
    finish(machine.services, 10)
    assert machine.job(id).state is State.DONE


# ---- a full disk ----


def test_a_full_disk_is_waited_out_as_one_attempt_with_one_line_however_long_it_takes(machine: Machine) -> None:
    id = machine.ask()
    for _ in range(40):
        machine.engine.fail(machine.handle(id), NO_SPACE)
        machine.tick()
        job = machine.job(id)
        assert (job.state, job.reason, job.attempt, job.failures) == (State.QUEUED, Reason.SPACE, 1, 0)
        assert machine.engine.poll().items == {}
        machine.now += SPACE_RETRY_S
        admit(machine.services, 10)
        machine.tick()
        assert machine.job(id).state is State.DOWNLOADING
    assert [event.text for event in machine.job(id).events] == [
        *("queued", "admitted to fake", "fake has it", f"waits: {NO_SPACE.detail}"),
    ]
    machine.engine.complete(machine.handle(id))
    machine.tick()
    finish(machine.services, 10)
    assert [event.type for event in machine.job(id).events if event.type] == ["job.queued", "job.started", "job.completed"]


def test_a_job_that_is_to_be_paused_does_not_wait_for_space_first(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    id = machine.ask()
    monkeypatch.setattr(machine.engine, "pause", lambda handles: None)
    control(machine.services, id, Action.PAUSE)
    machine.engine.fail(machine.handle(id), NO_SPACE)
    machine.tick()
    assert machine.job(id).state is State.PAUSED


def test_a_paused_job_for_which_there_is_no_space_stays_paused_and_leaves_the_engine(machine: Machine) -> None:
    id = paused(machine)
    machine.engine.fail(machine.handle(id), NO_SPACE)
    machine.tick(2)
    assert machine.job(id).state is State.PAUSED
    assert machine.engine.poll().items == {}
    control(machine.services, id, Action.RESUME)
    admit(machine.services, 10)
    machine.tick()
    assert machine.job(id).state is State.DOWNLOADING
