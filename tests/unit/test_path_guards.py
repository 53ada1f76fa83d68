"""What keeps a step that comes late, twice, or from who lost the right from doing harm: each guard for itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Machine
from tests.unit.sharing.askers import ask
from worker.admission.admit import admit
from worker.admission.control import control, intended
from worker.delivery import finish as delivery
from worker.jobs.errors import Conflict
from worker.jobs.model import Job, Progress, Result, SourceKind, Transfer
from worker.jobs.states import Action, Cause, State, Want
from worker.limits import RPC_TIMEOUT_S, SUBMIT_WINDOW_S
from worker.ports import Applied, Change, Fault, Item, ItemStatus, JobStore, Lease
from worker.sharing import _succeeding
from worker.store.wrapped import WrappedStore
from worker.supervision import attend, endings, settle, submission
from worker.supervision.lease import Held

RESULT = Result("/data/x", 1)


class Leased(WrappedStore):
    """Notes what is changed, without a lease, of jobs that an engine has."""

    def __init__(self, inner: JobStore) -> None:
        super().__init__(inner)
        self.unleased: list[str] = []
        self.leased = 0

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        held = [change for change in changes if change.old.transfer is not None or change.new.transfer is not None]
        if lease is None:
            self.unleased += [f"{change.old.state} -> {change.new.state}" for change in held]
        self.leased += lease is not None and bool(held)
        return super().apply(changes, lease)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def transfer_of(job: Job) -> Transfer:
    assert job.transfer is not None
    return job.transfer


def changed(machine: Machine, job: Job, **changes: Any) -> Job:
    new = job.noted(1.0, **changes)
    [applied] = machine.services.store.apply([Change(job, new)])
    assert applied.won
    return new


def in_transfer(machine: Machine, uri: str = "http://host/x") -> Job:
    """A job that its engine has."""
    id = ask(machine, uri=uri, kind=SourceKind.HTTP)
    begin(machine)
    assert machine.job(id).state is State.DOWNLOADING
    return machine.job(id)


def begin(machine: Machine) -> None:
    machine.tick()
    admit(machine.services, 100)
    machine.tick()


# ---- fencing ----


def test_an_owner_changes_nothing_that_its_engine_has_without_its_lease(machine: Machine) -> None:
    store = Leased(machine.services.store)
    machine.services = replace(machine.services, store=store)
    machine.take_over()
    jobs = {what: in_transfer(machine, f"http://host/{what}") for what in ("fails", "ends", "stops", "goes", "vanishes", "late")}
    pair = [ask(machine, user) for user in ("ann", "ben")]
    begin(machine)
    begin(machine)
    leader, follower = sorted(pair, key=lambda id: machine.job(id).following is not None)
    assert machine.job(follower).following
    handles = {what: machine.handle(job.id) for what, job in jobs.items()}
    machine.engine.fail(handles["fails"], Fault(Cause.NOT_FOUND, passing=False, detail="no"))
    machine.engine.complete(handles["ends"])
    del machine.engine._work[handles["vanishes"]]
    for id, action in ((jobs["stops"].id, Action.PAUSE), (jobs["goes"].id, Action.CANCEL), (leader, Action.CANCEL)):
        control(machine.services, id, action)
    store.unleased.clear()
    store.leased = 0
    machine.tick(3)
    machine.now += SUBMIT_WINDOW_S + RPC_TIMEOUT_S + 1
    late = machine.job(jobs["late"].id)
    store._inner.apply([Change(late, late.moved(State.SUBMITTING, 1.0, "lost"))])
    machine.tick(3)
    assert store.unleased == []
    assert store.leased >= 6
    states = [machine.job(job.id).state for what, job in jobs.items() if what != "late"]
    assert states == [State.FAILED, State.FINISHING, State.PAUSED, State.CANCELLED, State.DOWNLOADING]
    assert machine.job(leader).state is State.CANCELLED
    assert machine.job(follower).state is State.DOWNLOADING


# ---- the window of a submission ----


@pytest.mark.parametrize(
    ("calls_left", "called", "reopened"),
    [(1.0, True, False), (0.9, False, False), (-0.9, False, False), (-1.0, True, True)],
)
def test_no_call_is_begun_that_could_end_after_its_window_and_no_window_before_the_last_call_of_the_old_one_has_ended(
    machine: Machine, calls_left: float, called: bool, reopened: bool
) -> None:
    job = in_transfer(machine)
    transfer = replace(transfer_of(job), submit_until=machine.now + calls_left * machine.engine.rpc_timeout_s)
    waits = job.moved(State.SUBMITTING, 1.0, "again", transfer=transfer)
    machine.services.store.apply([Change(job, waits)])
    ready = submission._in_window(machine.services, machine.engine, machine._lease, [waits])
    assert [found.id for found in ready] == ([job.id] if called else [])
    assert transfer_of(machine.job(job.id)).submit_until == (machine.now + SUBMIT_WINDOW_S if reopened else transfer.submit_until)


# ---- what a user wants meanwhile ----


def test_what_is_to_be_cancelled_is_neither_finished_nor_adopted(machine: Machine) -> None:
    job = replace(in_transfer(machine), want=Want.CANCEL)
    assert settle.completed(job, Item("h", ItemStatus.COMPLETE, "t", Progress(1, 1)), 1.0) is None
    assert settle.adopted(replace(job, state=State.SUBMITTING), 1.0) is None
    assert settle.adopted(replace(job, state=State.SUBMITTING, want=Want.PAUSE), 1.0) is None


def test_a_paused_job_that_is_to_be_cancelled_is_not_resumed(machine: Machine) -> None:
    job = replace(in_transfer(machine), state=State.PAUSED, want=Want.CANCEL)
    with pytest.raises(Conflict):
        intended(job, Action.RESUME, 1.0)


def test_a_retry_begins_without_the_place_of_the_attempt_before(machine: Machine) -> None:
    job = replace(in_transfer(machine), state=State.FAILED, result=RESULT)
    assert intended(job, Action.RETRY, 1.0).result is None


def test_a_cancel_ends_nothing_that_is_on_its_way_into_place(machine: Machine) -> None:
    job = replace(in_transfer(machine), state=State.FINISHING)
    assert endings.may_cancel(job)
    assert not endings.may_cancel(replace(job, result=RESULT))


def test_only_what_the_engine_has_forgotten_is_recorded_as_cancelled(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [changed(machine, in_transfer(machine, f"http://host/{n}"), want=Want.CANCEL) for n in range(2)]
    kept = machine.handle(jobs[1].id)
    remove = machine.engine.remove
    monkeypatch.setattr(machine.engine, "remove", lambda handles: remove([handle for handle in handles if handle != kept]))
    attend.cancel(machine.services, machine._owner.engine, machine._lease, jobs)
    assert [machine.job(job.id).state for job in jobs] == [State.CANCELLED, State.DOWNLOADING]
    assert kept in machine.engine.poll().items


def test_what_was_fetched_is_deleted_before_the_record_says_that_nothing_is_left(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    job = changed(machine, in_transfer(machine), want=Want.CANCEL)
    work = Path(transfer_of(job).directory)
    work.mkdir(parents=True, exist_ok=True)
    there: list[bool] = []
    apply = machine.services.store.apply
    monkeypatch.setattr(machine.services.store, "apply", lambda *args: (there.append(work.exists()), apply(*args))[1])
    endings.record_cancelled(machine.services, machine._lease, [job])
    assert there == [False]


def test_a_job_that_was_changed_between_its_check_and_its_move_is_not_moved(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    id = in_transfer(machine).id
    machine.engine.complete(machine.handle(id))
    machine.tick()
    intended_places = delivery._intended

    def changed_before(services: Any, parcels: list[delivery.Parcel]) -> list[delivery.Parcel]:
        changed(machine, machine.job(id), want=Want.CANCEL)
        return intended_places(services, parcels)

    monkeypatch.setattr(delivery, "_intended", changed_before)
    delivery.finish(machine.services, 100)
    assert (machine.job(id).state, machine.job(id).result) == (State.FINISHING, None)
    assert not list(machine.downloads.glob("[!.]*"))
    monkeypatch.undo()
    assert delivery.finish(machine.services, 100) == 0, "what is to be cancelled is not finished"
    assert machine.job(id).result is None


# ---- what nobody asks for ----


def test_what_a_record_asked_for_at_one_of_two_looks_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    job = in_transfer(machine)
    handle = machine.handle(job.id)
    looks: list[Iterable[str]] = []

    def holding(transfers: Iterable[str]) -> list[Job]:
        looks.append(transfers)
        return [job] if len(looks) == 1 else []

    monkeypatch.setattr(machine.services.store, "holding", holding)
    reconciler = machine._owner._reconciler
    poll = machine.engine.poll()
    reconciler.due()
    for _ in range(2):
        reconciler.consider(machine._lease, poll, [handle])
    assert len(looks) == 2
    assert handle in machine.engine.poll().items


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        ({}, True),
        ({"state": State.DONE, "seeding": True}, True),
        ({"state": State.DONE}, False),
        ({"attempt": 2}, False),
        ({"engine": "other"}, False),
    ],
)
def test_a_record_asks_for_its_own_attempt_at_its_own_engine_while_it_lasts(machine: Machine, changes: dict[str, Any], asks: bool) -> None:
    job = in_transfer(machine)
    if engine := changes.pop("engine", None):
        changes = {"transfer": replace(transfer_of(job), engine=engine)}
    claimed = machine._owner._reconciler._claimed(replace(job, **changes))
    assert (claimed == machine.handle(job.id)) if asks else claimed is None


# ---- hand-over ----


def test_a_successor_goes_on_with_the_attempt_and_within_the_window_that_the_engine_knows(machine: Machine) -> None:
    leader, follower = in_transfer(machine), in_transfer(machine, "http://host/y")
    leader = replace(leader, attempt=3, transfer=replace(transfer_of(leader), attempt=3, submit_until=5.0))
    waits = replace(follower, state=State.QUEUED, transfer=None)
    new = _succeeding(waits, leader, 1.0, 100.0)
    assert (new.attempt, transfer_of(new).submit_until) == (3, 100.0 + SUBMIT_WINDOW_S)
    under_way = _succeeding(waits, replace(leader, state=State.SUBMITTING), 1.0, 100.0)
    assert (under_way.attempt, transfer_of(under_way).submit_until) == (3, 5.0)


# ---- what the owner is asked for -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "want", "list_of"),
    [
        (State.SUBMITTING, Want.RUN, "submit"),
        (State.SUBMITTING, Want.PAUSE, "shelve"),
        (State.SUBMITTING, Want.CANCEL, "cancel"),
        (State.DOWNLOADING, Want.RUN, None),
        (State.DOWNLOADING, Want.PAUSE, "pause"),
        (State.DOWNLOADING, Want.CANCEL, "cancel"),
        (State.FINISHING, Want.RUN, None),
        (State.PAUSED, Want.PAUSE, "stand"),
    ],
)
def test_an_owner_does_what_the_record_asks_and_nothing_else(machine: Machine, state: State, want: Want, list_of: str | None) -> None:
    todo = attend.sort([replace(in_transfer(machine), state=state, want=want)])
    lists = ("submit", "shelve", "pause", "cancel", "stand")
    assert [name for name in lists if getattr(todo, name)] == ([list_of] if list_of else [])


@pytest.mark.parametrize("there", [True, False])
def test_what_was_paused_while_it_was_handed_over_is_paused_unless_the_engine_has_it(machine: Machine, there: bool) -> None:
    job = in_transfer(machine)
    back = job.moved(State.SUBMITTING, 1.0, "again", want=Want.PAUSE)
    machine.services.store.apply([Change(job, back)])
    items = machine.engine.poll().items if there else {}
    attend.shelve(machine.services, machine.engine, machine._lease, [back], items)
    assert machine.job(job.id).state is (State.DOWNLOADING if there else State.PAUSED)


def test_a_lease_is_as_old_as_the_question_not_as_the_answer(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def slow(name: str, owner: str, ttl_s: float) -> Lease:
        nonlocal now
        now += 7.0
        return Lease(name, owner, 1, ttl_s)

    monkeypatch.setattr(machine.services.store, "acquire_lease", slow)
    held = Held(machine.services.store, "engine:fake", "me", lambda: now)
    assert held.keep() is not None
    assert held.age_s == 7.0
