"""What is too large for a disk: at once, and only where no other disk would do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.machine import Machine, services_of
from tests.unit.test_space import GB, RESERVE, queued, view
from worker.admission.admit import admit
from worker.admission.decide import Admit, Reject, Wait, decide
from worker.admission.never import never_fits
from worker.admission.space import Space, Volume
from worker.engines.fake import FakeEngine
from worker.jobs.model import Job, Progress, Transfer
from worker.jobs.states import Cause, Reason, State
from worker.limits import FREE_BYTES_MIN
from worker.store.sqlite.store import SqliteStore
from worker.supervision import room

BOTH = {"a": view("a"), "b": view("b")}


def disks(*, free: int = 50 * GB) -> Space:
    """`a` works on a small disk, `b` on a large one."""
    return Space({1: Volume(10 * GB, 10 * GB), 2: Volume(100 * GB, free)}, {"a": 1, "b": 2}, RESERVE)


def begun(size: int, **changes: object) -> Job:
    """A job that `a` has begun before its size was known, and that waits for space since it is."""
    transfer = Transfer("t", "a", 1, "/a/.haul/t/a", 0.0, 0)
    return queued(transfer=transfer, attempt=1, reason=Reason.SPACE, progress=Progress(total=size), **changes)


def test_what_is_too_large_for_the_disk_it_began_on_goes_to_one_with_room() -> None:
    assert decide(begun(20 * GB), BOTH, 0, disks()) == Admit("b")
    waits = decide(begun(20 * GB), BOTH, 0, disks(free=5 * GB))
    assert isinstance(waits, Wait)
    assert waits.reason is Reason.SPACE, "there will be room"


def test_what_fits_where_it_began_stays_there() -> None:
    assert decide(begun(5 * GB), BOTH, 0, disks()) == Admit("a")


def test_who_named_an_engine_with_too_small_a_disk_is_told_that_another_would_do() -> None:
    for job in (queued(20 * GB, engine="a"), begun(20 * GB, engine="a")):
        refused = decide(job, BOTH, 0, disks())
        assert isinstance(refused, Reject)
        assert refused.text == (
            "it needs 20.0 GiB, and the disk has room for 9.0 GiB at most on a, the engine it names;"
            " without that it may go to one with a larger disk"
        )
    hopeless = decide(queued(200 * GB, engine="a"), BOTH, 0, disks())
    assert isinstance(hopeless, Reject)
    assert hopeless.text.endswith("on a, the engine it names")
    nowhere = decide(begun(200 * GB), BOTH, 0, disks())
    assert isinstance(nowhere, Reject)
    assert "names" not in nowhere.text


def test_the_door_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = {str(tmp_path / "a"): (1, Volume(10 * GB, GB)), str(tmp_path / "b"): (2, Volume(100 * GB, GB))}
    engines = [FakeEngine(directory, name=os.path.basename(directory)) for directory in volumes]
    monkeypatch.setattr("worker.admission.space._seen", lambda path: volumes.get(str(path)))
    store = SqliteStore(tmp_path / "haul.db")
    services = services_of(tmp_path, store, engines, settings={"space_reserve": RESERVE})
    assert never_fits(services, queued(20 * GB)) is None
    told = never_fits(services, queued(20 * GB, engine="a"))
    assert told is not None
    assert told.endswith("on a, the engine it names; without that it may go to one with a larger disk")
    assert never_fits(services, queued(20 * GB, engine="b")) is None
    store.close()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    made = Machine(tmp_path, space_reserve=2 * FREE_BYTES_MIN)
    yield made
    made.services.close()


def test_a_size_that_turns_out_to_fit_nowhere_is_refused_without_a_wait(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = 2 * FREE_BYTES_MIN + 999  # a magnet link's torrent has 1000 bytes
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_frsize=1, f_blocks=whole, f_bfree=whole, f_bavail=whole))
    poll = machine.engine.poll
    monkeypatch.setattr(machine.engine, "poll", lambda: replace(poll(), free_bytes=whole))
    id = machine.ask()
    machine.tick()
    admit(machine.services, 100)
    job = machine.job(id)
    assert (job.state, job.cause) == (State.FAILED, Cause.REFUSED)
    assert str(job.message).startswith("size: it needs 1000 B, and the disk has room for 999 B at most")
