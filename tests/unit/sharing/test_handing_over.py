"""The one who downloads stops, and the next one goes on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.machine import MAGNET, Machine
from tests.unit.sharing.askers import BYTES, ask, asked, breaks_at, check_delivered, complete, turn
from worker.admission.admit import admit
from worker.engines.fake import content_of
from worker.jobs.model import Job, Source, SourceKind
from worker.jobs.states import Action, Cause, Reason, State
from worker.pipeline import control
from worker.ports import Change, Fault


@pytest.mark.parametrize(("action", "state"), [(Action.CANCEL, State.CANCELLED), (Action.PAUSE, State.PAUSED)])
def test_a_download_goes_on_for_the_others_when_its_first_user_stops(machine: Machine, action: Action, state: State) -> None:
    leader, *others = asked(machine, 3)
    machine.engine.advance(400)
    control(machine.services, leader, action)
    turn(machine)
    assert (machine.job(leader).state, machine.job(leader).transfer) == (state, None)
    successor, follower = sorted(others, key=lambda id: machine.job(id).state is not State.DOWNLOADING)
    assert machine.job(successor).state is State.DOWNLOADING
    assert machine.job(follower).following == leader
    assert len(machine.engine.poll().items) == 1
    assert machine.services.store.engine_counts() == {"fake": 1}
    complete(machine)
    turn(machine)
    check_delivered(machine, others)
    assert not (machine.downloads / leader).exists()


def test_what_one_user_paused_goes_on_for_the_next_who_asks(machine: Machine) -> None:
    [first] = asked(machine, 1)
    machine.engine.advance(400)
    control(machine.services, first, Action.PAUSE)
    turn(machine)
    assert (machine.job(first).state, machine.job(first).reason) == (State.PAUSED, None)
    second, third = ask(machine, "second"), ask(machine, "third")
    turn(machine, 3)
    assert (machine.job(first).state, machine.job(first).transfer) == (State.PAUSED, None)
    assert machine.job(second).state is State.DOWNLOADING
    assert machine.job(third).following == first
    assert sum(event.type == "job.paused" for event in machine.job(first).events) == 1
    complete(machine)
    turn(machine)
    check_delivered(machine, [second, third])
    assert machine.job(first).state is State.PAUSED


def test_what_is_paused_stays_as_it_is_when_the_next_who_asks_thinks_better_of_it(machine: Machine) -> None:
    [first] = asked(machine, 1)
    machine.engine.advance(400)
    control(machine.services, first, Action.PAUSE)
    turn(machine)
    second = ask(machine, "second")
    admit(machine.services, 100)
    assert machine.job(first).reason is Reason.DUPLICATE
    control(machine.services, second, Action.CANCEL)
    turn(machine)
    paused = machine.job(first)
    assert (paused.state, paused.reason) == (State.PAUSED, None)
    control(machine.services, first, Action.RESUME)
    turn(machine)
    complete(machine)
    turn(machine)
    check_delivered(machine, [first])


def test_what_is_resumed_before_the_next_has_it_is_his_again(machine: Machine) -> None:
    [first] = asked(machine, 1)
    control(machine.services, first, Action.PAUSE)
    turn(machine)
    second = ask(machine, "second")
    admit(machine.services, 100)
    control(machine.services, first, Action.RESUME)
    turn(machine, 3)
    states = {machine.job(id).state for id in (first, second)}
    assert State.DOWNLOADING in states
    for _ in range(3):
        complete(machine)
        turn(machine)
    assert {machine.job(id).state for id in (first, second)} == {State.DONE}


def test_each_in_turn_may_stop_and_the_last_one_takes_the_download_with_him(machine: Machine) -> None:
    left = asked(machine, 4)
    machine.engine.advance(400)
    while left:
        running = [id for id in left if machine.job(id).state is State.DOWNLOADING]
        assert len(running) == 1
        control(machine.services, running[0], Action.CANCEL)
        turn(machine)
        left.remove(running[0])
    assert machine.engine.poll().items == {}
    assert machine.engine.fetched[MAGNET] == 400
    machine.seen_anew()
    assert not list((machine.downloads / ".haul").glob("*"))


def test_all_may_stop_at_once(machine: Machine) -> None:
    ids = asked(machine, 6)
    machine.engine.advance(400)
    for id in ids:
        control(machine.services, id, Action.CANCEL)
    turn(machine)
    assert {machine.job(id).state for id in ids} == {State.CANCELLED}
    assert machine.engine.poll().items == {}


def test_who_paused_and_goes_on_waits_for_what_was_his(machine: Machine) -> None:
    first, second = asked(machine, 2)
    control(machine.services, first, Action.PAUSE)
    turn(machine)
    control(machine.services, first, Action.RESUME)
    turn(machine)
    assert machine.job(first).following == first, "the transfer keeps its name"
    control(machine.services, second, Action.CANCEL)
    turn(machine)
    assert machine.job(first).state is State.DOWNLOADING
    complete(machine)
    turn(machine)
    check_delivered(machine, [first])


def test_who_cancelled_and_asks_again_shares_no_directory_with_who_took_over(machine: Machine) -> None:
    first, second = asked(machine, 2)
    machine.engine.advance(400)
    control(machine.services, first, Action.CANCEL)
    turn(machine)
    taken = machine.job(second).transfer
    assert taken is not None
    machine.services.store.apply([Change(old := machine.job(second), old.noted(1.0, sha256="f" * 64))])  # not the same any more
    retried = control(machine.services, first, Action.RETRY)
    machine.services.store.apply([Change(retried, retried.noted(1.0, sha256=hashlib.sha256(BYTES).hexdigest()))])
    turn(machine)
    own = machine.job(first).transfer
    assert own is not None
    assert own.directory != taken.directory
    machine.seen_anew()
    assert Path(taken.directory).is_dir()
    assert Path(own.directory).is_dir()


@pytest.mark.parametrize("state", [State.SUBMITTING, State.DOWNLOADING, State.QUEUED, State.FINISHING])
@pytest.mark.parametrize("point", ["share.handed", "share.left"])
def test_a_process_that_dies_while_it_hands_over_leaves_one_download_with_one_holder(machine: Machine, state: State, point: str) -> None:
    leader, *others = asked(machine, 3)
    machine.engine.advance(400)
    bring(machine, machine.job(leader), state)
    control(machine.services, leader, Action.CANCEL)
    breaks_at(machine, point)
    machine.now += 100
    turn(machine, 3)
    assert machine.job(leader).state is State.CANCELLED
    holders = [job for id in others if (job := machine.job(id)).transfer is not None and not job.terminal]
    assert len(holders) <= 1 or state is State.FINISHING
    complete(machine)
    turn(machine, 3)
    check_delivered(machine, others)
    assert not (machine.downloads / leader).exists()


def bring(machine: Machine, job: Job, state: State) -> None:
    """The one who downloads is in another state when he is cancelled."""
    if state is State.SUBMITTING:
        machine.engine.restart(keep=False)
        with machine.engine.silent():
            machine.services.store.apply([Change(job, job.moved(state, 1.0, None))])
    elif state is State.QUEUED:
        machine.engine.fail(machine.handle(job.id), Fault(Cause.INTERRUPTED, True, "the connection broke"))
        machine.tick()
    elif state is State.FINISHING:
        complete(machine)
        machine.tick()
    assert machine.job(job.id).state is state


def test_one_who_is_cancelled_while_he_is_given_the_download_loses_nobody_else_theirs(machine: Machine) -> None:
    leader, *others = asked(machine, 4)
    control(machine.services, leader, Action.CANCEL)
    breaks_at(machine, "share.handed")
    successor = next(id for id in others if machine.job(id).transfer is not None)
    control(machine.services, successor, Action.CANCEL)
    turn(machine)
    assert {machine.job(id).state for id in (leader, successor)} == {State.CANCELLED}
    others.remove(successor)
    complete(machine)
    turn(machine)
    check_delivered(machine, others)


def test_one_who_goes_on_while_his_download_is_given_away_waits_for_it(machine: Machine) -> None:
    leader, other = asked(machine, 2)
    control(machine.services, leader, Action.PAUSE)
    breaks_at(machine, "share.handed")
    control(machine.services, leader, Action.RESUME)
    machine.take_over()
    turn(machine)
    assert machine.job(other).state is State.DOWNLOADING
    complete(machine)
    turn(machine, 3)
    check_delivered(machine, [leader, other])


def test_a_download_from_a_mirror_is_not_taken_over_and_its_file_is_shared(machine: Machine) -> None:
    digest = hashlib.sha256(content_of(Source(SourceKind.HTTP, "http://127.0.0.1/one"))).hexdigest()

    def mirrored(name: str) -> str:
        id = ask(machine, name, f"http://127.0.0.1/{name}", SourceKind.HTTP, guarded=False, sha256=digest)
        turn(machine)
        return id

    one, two = mirrored("one"), mirrored("two")
    assert machine.job(two).following == one
    machine.engine.advance(400)
    control(machine.services, one, Action.CANCEL)
    turn(machine)
    transfer = machine.job(two).transfer
    assert transfer is not None
    assert transfer.id == two
    assert (machine.job(one).state, machine.job(two).state) == (State.CANCELLED, State.DOWNLOADING)
