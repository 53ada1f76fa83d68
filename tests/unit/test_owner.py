"""The owner of an engine, tick by tick: an engine in memory, a real store and real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import MAGNET, Machine
from tests.torrents import pack
from worker.admission.admit import admit
from worker.admission.control import control
from worker.admission.queue import announce
from worker.delivery.finish import finish
from worker.jobs.model import Request, Source, SourceKind, new_job
from worker.jobs.states import Action, Cause, Reason, State
from worker.jobs.torrents import describe
from worker.limits import ASIDE_S
from worker.ports import SWEEPER, Fault, ItemStatus
from worker.supervision.submission import DOCUMENTS_MAX, orders


def test_a_torrent_that_seeds_is_done_in_place_and_kept_at_the_engine_without_a_slot(machine: Machine) -> None:
    id = machine.seeding()
    job = machine.job(id)
    assert (job.state, job.seeding) == (State.DONE, True)
    assert job.result is not None
    assert Path(job.result.path).is_file()
    machine.seen_anew()
    assert machine.handle(id) in machine.engine.poll().items
    assert list((machine.downloads / ".haul" / id / "fake").iterdir())
    assert machine.services.store.engine_counts() == {}


@pytest.mark.parametrize("restarted", [False, True])
def test_at_its_limit_the_engine_forgets_it_its_copy_goes_and_the_file_stays(machine: Machine, restarted: bool) -> None:
    id = machine.seeding()
    if restarted:
        machine.take_over()
        machine.tick()
        assert machine.job(id).seeding
    machine.engine.end_seeding(machine.handle(id))
    machine.tick()
    job = machine.job(id)
    assert (job.state, job.seeding) == (State.DONE, False)
    assert job.result is not None
    assert Path(job.result.path).is_file()
    assert not (machine.downloads / ".haul" / id).exists()
    assert machine.engine.poll().items == {}


def test_a_seeding_torrent_the_engine_lost_seeds_no_more(machine: Machine) -> None:
    id = machine.seeding()
    machine.engine.restart(keep=False)
    machine.tick(2)
    assert not machine.job(id).seeding
    assert not (machine.downloads / ".haul" / id).exists()


def test_a_torrent_that_is_not_to_seed_is_forgotten_when_it_is_done(machine: Machine) -> None:
    id = machine.ask()
    machine.engine.complete(machine.handle(id))
    machine.tick()
    finish(machine.services, 100)
    machine._owner._leftovers._cleared_at = float("-inf")
    machine.tick()
    assert (machine.job(id).state, machine.job(id).seeding) == (State.DONE, False)
    assert machine.engine.poll().items == {}


def test_a_torrent_the_engine_has_for_another_job_waits_as_long_as_it_takes_and_fails_nothing(machine: Machine) -> None:
    machine.engine.refusals[MAGNET] = Fault(Cause.ENGINE, True, "the engine has this torrent for another job", wait=Reason.DUPLICATE)
    id = machine.ask()
    first = machine.job(id)
    assert (first.state, first.reason, first.attempt, first.failures) == (State.QUEUED, Reason.DUPLICATE, 1, 0)
    for _ in range(10):
        machine.now += 11
        admit(machine.services, 100)
        machine.tick()
    again = machine.job(id)
    assert (again.state, again.attempt, again.failures) == (State.QUEUED, 1, 0)
    assert [event.text for event in again.events] == [event.text for event in first.events], "waiting fills no timeline"

    machine.engine.refusals.clear()
    machine.now += 11
    admit(machine.services, 100)
    machine.tick()
    assert machine.job(id).state is State.DOWNLOADING


def test_a_download_without_a_byte_for_too_long_is_tried_again_and_its_old_attempt_is_removed(tmp_path: Path) -> None:
    machine = Machine(tmp_path, stall_timeout_s=1e-9)
    id = machine.ask()
    machine.tick(2)
    job = machine.job(id)
    assert (job.state, job.attempt, job.failures) == (State.QUEUED, 2, 1)
    assert "not a byte came" in str(job.message)
    assert machine.engine.poll().items == {}
    machine.services.close()


def test_what_stands_still_is_set_going_again_and_what_the_engine_then_refuses_has_failed(machine: Machine) -> None:
    id = machine.ask()
    machine.engine.pause([machine.handle(id)])
    machine.tick(2)
    assert machine.engine.poll().items[machine.handle(id)].status is ItemStatus.RUNNING

    machine.engine.pause([machine.handle(id)])
    machine.engine.refusals[MAGNET] = Fault(Cause.SOURCE, False, "the torrent has no file of a number that was selected")
    machine.tick()
    job = machine.job(id)
    assert (job.state, job.cause) == (State.FAILED, Cause.SOURCE)
    assert "no file of a number" in str(job.message)
    machine.engine.refusals.clear()
    machine.seen_anew()
    assert machine.engine.poll().items == {}, "what it still had is removed"


def test_torrent_files_are_read_a_few_at_a_time_and_all_are_handed_over(machine: Machine) -> None:
    store = machine.services.store
    jobs = []
    for number in range(3 * DOCUMENTS_MAX):
        document = pack({f"{number}.bin": b"%d" % number}).document
        described = describe(document)
        store.keep_torrent(document)
        source = Source(SourceKind.TORRENT, f"torrent:{described.document}")
        jobs.append(new_job(Request(source, "u", description=described), 1.0))
    assert all(inserted.created for inserted in store.insert(jobs))
    announce(machine.services, jobs)
    machine.tick()
    admit(machine.services, 100)
    before = machine.engine.calls["submit"]
    machine.tick()
    assert {machine.job(job.id).state for job in jobs} == {State.DOWNLOADING}
    assert machine.engine.calls["submit"] - before == 3


def test_what_was_put_aside_while_the_engine_was_away_is_looked_at_soon_after_it_came(machine: Machine) -> None:
    machine.tick()
    while machine.services.coordinator.rest(SWEEPER, 0.0):
        pass
    machine.tick()
    assert not machine.services.coordinator.rest(SWEEPER, 0.0)
    machine.now += ASIDE_S
    machine.tick()
    assert machine.services.coordinator.rest(SWEEPER, 0.0), "a nudge woke the sweeper"


def test_an_order_that_arrives_after_its_job_was_cancelled_leaves_nothing_behind(machine: Machine) -> None:
    id = machine.ask()
    [order] = orders(machine.services, [machine.job(id)])
    control(machine.services, id, Action.CANCEL)
    machine.tick()
    assert machine.job(id).state is State.CANCELLED

    machine.engine.submit([order])
    machine.engine.advance(300)
    assert Path(order.directory).exists()
    machine.seen_anew()
    assert machine.engine.poll().items == {}
    assert not (machine.downloads / ".haul" / id).exists()


def test_wrong_bytes_that_a_crash_left_are_deleted_by_the_next_look_and_those_a_retry_goes_on_from_are_kept(machine: Machine) -> None:
    wrong = machine.ask(sha256="0" * 64)
    machine.engine.complete(machine.handle(wrong))
    machine.tick()
    finish(machine.services, 100)
    assert machine.job(wrong).cause is Cause.CHECKSUM
    part = machine.ask("magnet:?xt=urn:btih:" + "b2" * 20)
    machine.engine.advance(300, machine.handle(part))
    machine.engine.fail(machine.handle(part), Fault(Cause.NOT_FOUND, False, "there is no such file"))
    machine.tick()
    assert machine.job(part).state is State.FAILED

    left = machine.downloads / ".haul" / wrong / "fake"
    left.mkdir(parents=True)
    machine.seen_anew()
    assert not left.parent.exists()
    assert list((machine.downloads / ".haul" / part / "fake").iterdir())
