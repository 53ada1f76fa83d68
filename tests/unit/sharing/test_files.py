"""The file is here: each of those who waited gets one of his own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.machine import MAGNET, Machine
from tests.unit.sharing.askers import BYTES, ask, asked, breaks_at, check_delivered, complete, placed, turn
from worker.jobs.states import Action, Cause, State
from worker.jobs.view import job_view
from worker.pipeline import control


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
