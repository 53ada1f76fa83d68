"""One download for several jobs, tick by tick: who waits, who goes on, who takes the file; an engine in memory, real records and files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import MAGNET, Machine
from worker import sharing
from worker.admission.admit import admit
from worker.admission.queue import belongs
from worker.delivery.finish import finish
from worker.engines.fake import content_of
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.model import Job, Request, Source, SourceKind
from worker.jobs.probe import Probe
from worker.jobs.states import Action, Cause, Reason, State
from worker.jobs.view import job_view
from worker.pipeline import accept, control, sweep, why
from worker.ports import Change, Fault

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


# ---- following ---------------------------------------------------------------------------------------------------


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


# ---- the file is here --------------------------------------------------------------------------------------------


def test_everybody_gets_a_file_of_his_own_from_one_download(machine: Machine) -> None:
    ids = asked(machine, 20)
    complete(machine)
    turn(machine)
    check_delivered(machine, ids)
    paths = [job.result.path for id in ids if (job := machine.job(id)).result]
    assert len({os.stat(path).st_ino for path in paths}) == 1, "links, which cost no space"
    views = [job_view(machine.job(id)) for id in ids]
    assert {(view["done_bytes"], view["total_bytes"]) for view in views} == {(len(BYTES), len(BYTES))}
    assert machine.services.metrics.shared.labels("joined")._value.get() == 19


def test_each_name_directory_and_checksum_is_its_own(machine: Machine, tmp_path: Path) -> None:
    right = hashlib.sha256(BYTES).hexdigest()
    leader = ask(machine, "ann", name="ann.bin")
    turn(machine)
    named = ask(machine, "bob", name="bob.bin", out=str(tmp_path / "out"), sha256=right)
    wrong = ask(machine, "cid", sha256=right[::-1])
    turn(machine)
    complete(machine)
    turn(machine)
    result = machine.job(named).result
    assert result is not None
    assert (result.path, result.sha256) == (str(tmp_path / "out" / "bob.bin"), right)
    assert machine.job(leader).state is State.DONE
    turn(machine)
    complete(machine)
    turn(machine)
    job = machine.job(wrong)
    assert (job.state, job.cause) == (State.FAILED, Cause.CHECKSUM), "by what came from its own source"
    assert machine.engine.fetched[MAGNET] == 2 * len(BYTES)


def test_a_file_that_its_owner_deletes_at_once_is_still_there_for_the_others(machine: Machine) -> None:
    leader, *others = asked(machine, 3)
    placed(machine)
    result = machine.job(leader).result
    assert result is not None
    Path(result.path).unlink()
    turn(machine)
    check_delivered(machine, others)


@pytest.mark.parametrize("point", ["finish.intended", "finish.moved", "share.joined", "finish.recorded", "finish.begun"])
def test_a_process_that_dies_on_the_way_to_the_others_loses_no_file_and_fetches_nothing_again(machine: Machine, point: str) -> None:
    ids = asked(machine, 5)
    complete(machine)
    breaks_at(machine, point)
    machine.seen_anew()
    turn(machine, 3)
    check_delivered(machine, ids)


def test_a_guest_may_be_cancelled_and_the_others_have_their_files(machine: Machine) -> None:
    leader, guest, other = asked(machine, 3)
    placed(machine)
    assert machine.job(guest).state is State.FINISHING
    control(machine.services, guest, Action.CANCEL)
    machine.tick()
    assert machine.job(guest).state is State.CANCELLED
    turn(machine)
    check_delivered(machine, [leader, other])
    assert not (machine.downloads / guest).exists()


def test_the_last_guest_that_is_cancelled_leaves_nothing(machine: Machine) -> None:
    leader, *guests = asked(machine, 3)
    placed(machine)
    for guest in guests:
        control(machine.services, guest, Action.CANCEL)
    turn(machine)
    assert {machine.job(guest).state for guest in guests} == {State.CANCELLED}
    check_delivered(machine, [leader])


def test_what_is_gone_before_a_guest_has_it_is_downloaded_by_himself(machine: Machine) -> None:
    leader, guest = asked(machine, 2)
    placed(machine)
    job = machine.job(guest)
    assert job.transfer is not None
    for file in Path(job.transfer.directory).iterdir():
        file.unlink()
    turn(machine)
    complete(machine)
    turn(machine)
    check_delivered(machine, [leader, guest], fetched=2)


def test_a_torrent_that_seeds_stays_until_those_who_waited_for_it_have_their_files(machine: Machine) -> None:
    leader, guest = asked(machine, 2, seed_ratio=2.0)
    placed(machine)
    turn(machine)
    machine.engine.end_seeding(machine.engine.handle(leader, 1))
    turn(machine)
    check_delivered(machine, [leader, guest])


# ---- the leader fails --------------------------------------------------------------------------------------------


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


# ---- the leader goes ---------------------------------------------------------------------------------------------


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
