"""One download for several jobs: who waits for whom, and what he is told meanwhile."""

from __future__ import annotations

from tests.machine import MAGNET, Machine
from tests.unit.sharing.askers import ask, asked, check_delivered, complete, turn
from worker import sharing
from worker.admission.admit import admit
from worker.admission.queue import belongs
from worker.jobs.model import SourceKind
from worker.jobs.probe import Probe
from worker.jobs.states import Action, Reason, State
from worker.pipeline import control, sweep, why
from worker.ports import Change


def test_of_twenty_who_ask_for_one_content_one_downloads_and_the_others_cost_nothing(machine: Machine) -> None:
    leader, *followers = asked(machine, 20)
    jobs = [machine.job(id) for id in followers]
    assert {(job.state, job.reason, job.following, job.transfer) for job in jobs} == {(State.QUEUED, Reason.DUPLICATE, leader, None)}
    assert len(machine.engine.poll().items) == 1
    assert machine.services.store.engine_counts() == {"fake": 1}
    assert machine.services.coordinator.waiting_size() == 0
    assert not any(map(belongs, jobs))
    assert machine.services.store.followed() == {leader: 19}


def test_the_sweep_takes_an_index_without_those_who_follow_for_whole(machine: Machine) -> None:
    asked(machine, 5)
    ask(machine, uri=MAGNET.replace("a1", "b2"))
    machine.services.metrics.reconciled.clear()
    sweep(machine.services)
    [metric] = machine.services.metrics.reconciled.collect()
    assert metric.samples == []


def test_whoever_follows_is_told_how_far_it_is_and_not_whose_it_is(machine: Machine) -> None:
    leader, follower = asked(machine, 2)
    machine.engine.advance(420)
    machine.tick()
    answer = why(machine.services, follower)
    assert answer.text == "the same content is downloaded for another request; 42 % done"
    assert answer.reason == "duplicate"
    assert leader not in answer.text
    complete(machine)
    machine.tick()
    assert why(machine.services, follower).text == "the same content is downloaded for another request; all bytes are here"


def test_those_who_come_while_it_downloads_or_is_verified_follow_as_well(machine: Machine) -> None:
    first, second = asked(machine, 2)
    machine.engine.advance(500)
    third = ask(machine, "late")
    turn(machine)
    complete(machine)
    machine.tick()
    assert machine.job(first).state is State.FINISHING
    fourth = ask(machine, "later")
    admit(machine.services, 100)
    assert machine.job(fourth).following == first
    turn(machine)
    check_delivered(machine, [first, second, third, fourth])


def test_other_content_follows_nobody(machine: Machine) -> None:
    asked(machine, 1)
    others = [ask(machine, uri=MAGNET.replace("a1", "b2")), ask(machine, select=(1,)), ask(machine, guarded=False)]
    turn(machine)
    assert [machine.job(id).state for id in others] == [State.DOWNLOADING] * 3


def test_an_address_is_shared_once_its_server_told_a_validator(machine: Machine) -> None:
    uri = "http://127.0.0.1/file"

    def probed(user: str, probe: Probe | None) -> str:
        id = ask(machine, user, uri, SourceKind.HTTP, guarded=False)
        job = machine.job(id)
        machine.services.store.apply([Change(job, job.noted(1.0, probe=probe))])
        turn(machine)
        return id

    leader, same = probed("ann", Probe(5, '"1"')), probed("bob", Probe(5, '"1"'))
    others = [probed("cid", Probe(5, '"2"')), probed("dan", None), probed("eve", Probe())]
    assert machine.job(same).following == leader
    assert [machine.job(id).state for id in others] == [State.DOWNLOADING] * 3


def test_who_follows_may_be_paused_resumed_and_cancelled_like_anybody_else(machine: Machine) -> None:
    leader, paused, cancelled, stays = asked(machine, 4)
    assert control(machine.services, paused, Action.PAUSE).state is State.PAUSED
    assert control(machine.services, cancelled, Action.CANCEL).state is State.CANCELLED
    turn(machine)
    assert control(machine.services, paused, Action.RESUME).state is State.QUEUED
    turn(machine)
    assert machine.job(paused).following == leader
    assert machine.job(leader).state is State.DOWNLOADING
    complete(machine)
    turn(machine)
    check_delivered(machine, [leader, paused, stays])
    assert machine.job(cancelled).state is State.CANCELLED
    assert not (machine.downloads / cancelled).exists()


def test_whoever_began_to_follow_what_ended_meanwhile_does_not_wait_for_it(machine: Machine) -> None:
    [leader] = asked(machine, 1)
    complete(machine)
    turn(machine)
    assert machine.job(leader).state is State.DONE
    late = ask(machine, "late")
    job = machine.job(late)
    follower = sharing.followed(job, leader, 1.0)
    machine.services.store.apply([Change(job, follower)])
    sharing.stay(machine.services, [follower])
    assert machine.job(late).following is None
    turn(machine)
    complete(machine)
    turn(machine)
    check_delivered(machine, [leader, late], fetched=2)


def test_whoever_waits_for_what_nobody_has_is_found_by_the_sweep(machine: Machine) -> None:
    id = ask(machine)
    job = machine.job(id)
    machine.services.store.apply([Change(job, sharing.followed(job, "0" * 24, 1.0))])
    machine.services.coordinator.drop_waiting([id])
    sweep(machine.services)
    assert (machine.job(id).reason, machine.services.coordinator.waiting_size()) == (Reason.TURN, 1)
