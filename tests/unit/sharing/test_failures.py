"""The download fails that others wait for."""

from __future__ import annotations

from tests.machine import Machine
from tests.unit.sharing.askers import ask, asked, check_delivered, complete, turn
from worker.jobs.states import Cause, State
from worker.pipeline import sweep
from worker.ports import Fault


def test_when_the_download_fails_the_others_wait_for_their_turn_and_try_for_themselves(machine: Machine) -> None:
    leader, *others = asked(machine, 3)
    machine.engine.fail(machine.handle(leader), Fault(Cause.NOT_FOUND, False, "there is no such file"))
    turn(machine)
    assert machine.job(leader).state is State.FAILED
    assert {machine.job(id).state for id in others} == {State.DOWNLOADING}
    complete(machine)
    turn(machine)
    assert {machine.job(id).state for id in others} == {State.DONE}


def test_when_it_fails_by_what_one_user_asked_for_the_others_share_the_next_download(machine: Machine) -> None:
    leader = ask(machine, sha256="0" * 64)
    turn(machine)
    others = [ask(machine, f"user-{n}") for n in range(3)]
    turn(machine)
    complete(machine)
    turn(machine)
    assert machine.job(leader).cause is Cause.CHECKSUM
    complete(machine)
    turn(machine)
    check_delivered(machine, others, fetched=2)


def test_a_download_that_is_tried_again_is_still_waited_for(machine: Machine) -> None:
    leader, follower = asked(machine, 2)
    machine.engine.advance(300)
    machine.engine.fail(machine.handle(leader), Fault(Cause.INTERRUPTED, True, "the connection broke"))
    machine.tick()
    sweep(machine.services)
    assert machine.job(follower).following == leader
    machine.now += 100
    turn(machine)
    complete(machine)
    turn(machine)
    check_delivered(machine, [leader, follower])
