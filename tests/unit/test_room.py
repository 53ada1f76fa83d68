"""Downloads that outgrow what was promised to them give way before the volume is full, and any when somebody else fills it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import Machine
from tests.torrents import pack
from worker.admission.admit import admit
from worker.engines.fake import FakeEngine
from worker.jobs.model import Progress, Request, Source, SourceKind
from worker.jobs.needs import expected
from worker.jobs.states import Reason, State
from worker.jobs.torrents import describe
from worker.limits import FREE_BYTES_MIN
from worker.pipeline import accept, why
from worker.ports import Item, ItemStatus, Poll
from worker.supervision import room

RESERVE = 2 * FREE_BYTES_MIN
#: What a magnet link's torrent has; nobody promised it anything.
SIZE = 1_000


class SmallDisk(FakeEngine):
    """An engine whose volume shows so many bytes as free as a test says."""

    shown: int | None = None

    def poll(self) -> Poll:
        """See `Engine.poll`."""
        seen = super().poll()
        return seen if self.shown is None else replace(seen, free_bytes=self.shown)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    monkeypatch.setattr("tests.machine.FakeEngine", SmallDisk)
    machine = Machine(tmp_path, space_reserve=RESERVE)
    yield machine
    machine.services.close()


def free(machine: Machine, size: int) -> None:
    assert isinstance(machine.engine, SmallDisk)
    machine.engine.shown = size


def described(machine: Machine) -> str:
    """A job whose torrent told its size."""
    document = pack().document
    request = Request(Source(SourceKind.TORRENT, "torrent:x"), "u", description=describe(document), document=document)
    [answer] = accept(machine.services, [request])
    assert not isinstance(answer, Exception), answer
    machine.tick()
    admit(machine.services, 100)
    machine.tick()
    return answer.job.id


def test_what_was_promised_nothing_and_does_not_fit_waits_for_space(machine: Machine) -> None:
    id = machine.ask()
    free(machine, RESERVE + SIZE - 1)
    machine.tick()
    job = machine.job(id)
    assert (job.state, job.reason, job.attempt, job.failures) == (State.QUEUED, Reason.SPACE, 1, 0)
    assert expected(job) == SIZE, "admission knows now what it needs"
    assert why(machine.services, id).text == "waits: needs 1000 B, 999 B are free and not promised to other jobs"
    assert machine.engine.poll().items == {}


def test_what_was_promised_nothing_and_fits_goes_on(machine: Machine) -> None:
    id = machine.ask()
    free(machine, RESERVE + SIZE)
    machine.tick(3)
    assert machine.job(id).state is State.DOWNLOADING


def test_what_was_promised_is_kept_and_the_other_gives_way(machine: Machine) -> None:
    kept, other = described(machine), machine.ask()
    size = expected(machine.job(kept))
    assert size is not None
    free(machine, RESERVE + size + SIZE - 1)
    machine.tick(3)
    assert (machine.job(kept).state, machine.job(other).reason) == (State.DOWNLOADING, Reason.SPACE)


def test_a_new_owner_finds_the_same(machine: Machine) -> None:
    id = machine.ask()
    machine.take_over()
    free(machine, RESERVE)
    machine.tick()
    assert machine.job(id).reason is Reason.SPACE


def test_what_lies_there_already_is_not_needed_again(machine: Machine) -> None:
    id = machine.ask()
    job = machine.job(id)
    assert job.transfer is not None
    Path(job.transfer.directory, "part").write_bytes(b"x" * SIZE)
    free(machine, RESERVE)
    machine.tick(3)
    assert machine.job(id).state is State.DOWNLOADING


def test_when_others_have_filled_the_disk_what_cannot_end_waits_whatever_it_was_promised(machine: Machine) -> None:
    small, large = machine.ask(), described(machine)
    size = expected(machine.job(large))
    assert size is not None
    free(machine, size - 1)
    machine.tick()
    assert machine.job(large).reason is Reason.SPACE
    assert "there is no space left on the disk" in (machine.job(large).message or "")
    machine.tick()
    assert machine.job(small).reason is Reason.SPACE, "nobody promised it anything"


def item(name: str, total: int | None) -> Item:
    return Item(name, ItemStatus.RUNNING, name, Progress(0, total))


def test_those_that_need_most_give_way_until_the_rest_fits() -> None:
    items = {name: item(name, size) for name, size in (("a", 10), ("b", 500), ("c", 100), ("d", None))}
    owed = {"a": 10, "b": 500, "c": 100, "d": 0}
    assert set(room._giving_way(items, owed, -400)) == {"b"}
    assert set(room._giving_way(items, owed, -501)) == {"b", "c"}
    assert set(room._giving_way(items, owed, -700)) == {"a", "b", "c", "d"}
    assert room._giving_way(items, owed, 0) == {}


def test_on_a_full_disk_those_stay_that_can_end() -> None:
    items = {name: item(name, size) for name, size in (("a", 10), ("b", 500), ("c", 100), ("d", None))}
    assert set(room._too_many(items, 200)) == {"b", "d"}
    assert set(room._too_many(items, 0)) == {"a", "b", "c", "d"}
