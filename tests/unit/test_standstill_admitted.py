"""A disk at a standstill, step by step: a real store and real directories, an engine in memory, and a volume of the test's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import Machine
from worker import pipeline
from worker.admission import space
from worker.admission.admit import admit
from worker.admission.doors import record
from worker.admission.idle import OUTSIDERS
from worker.admission.space import Volume
from worker.engines.volume import NO_SPACE
from worker.jobs.events import EventType
from worker.jobs.model import Job, Request, Source, SourceKind, new_job
from worker.jobs.probe import Probe
from worker.jobs.states import Action, Cause, Reason, State
from worker.ports import Change, Fault
from worker.supervision import board
from worker.supervision.room import Room
from worker.supervision.settle import SPACE_RETRY_S

MB = 1024 * 1024
RESERVE = 16 * MB
SIZE = 1000 * MB
PATIENCE_S = 600.0


class Disk(Machine):
    """The machine on a volume that is as full as the test says.

    Attributes:
        foreign: bytes of others that lie there.
        held: bytes that work directories take while they are there, by their paths.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.foreign, self.held, self._asked = 0, dict[str, int](), 0
        monkeypatch.setattr(space, "_seen", lambda _path: (7, Volume(SIZE, self.free)))
        monkeypatch.setattr(space, "allocated_bytes", lambda path: (self.held.get(path, 0) if Path(path).is_dir() else 0, 1))
        monkeypatch.setattr(board, "PROGRESS_STORE_S", float("inf"))  # what the engine has is small, and nobody is to know the sizes
        monkeypatch.setattr(Room, "without", lambda *_: {})  # for the same reason
        super().__init__(directory, space_reserve=RESERVE, space_patience_s=PATIENCE_S)

    @property
    def free(self) -> int:
        return max(0, SIZE - self.foreign - sum(size for path, size in self.held.items() if Path(path).is_dir()))

    def wants(self, size: int | None = None, priority: int = 0) -> str:
        """A job of so many bytes, or of as many as nobody knows, that waits for its turn."""
        self._asked += 1
        source = Source(SourceKind.MAGNET, f"magnet:?xt=urn:btih:{self._asked:040x}")  # of its own, or they would share a download
        job = new_job(Request(source, "u", f"k{self._asked}", priority=priority), self._asked)
        record(self.services, [job if size is None else replace(job, probe=Probe(size))])
        return job.id

    def admit(self, later_s: float = 0.0) -> None:
        self.now += later_s
        self.tick()
        while admit(self.services, 100):
            pass
        self.tick()

    def fetches(self, id: str, size: int) -> None:
        """So many bytes of it are on the disk."""
        job = self.job(id)
        assert job.state is State.DOWNLOADING, job.state
        assert job.transfer is not None
        self.held[job.transfer.directory] = size

    def fills(self, id: str, size: int) -> None:
        """It has so many bytes when its engine finds the disk full."""
        self.fetches(id, size)
        self.engine.fail(self.at_engine(id), NO_SPACE)
        self.tick()

    def at_engine(self, id: str) -> str:
        job = self.job(id)
        assert job.transfer is not None
        return self.engine.handle(job.transfer.id, job.transfer.attempt)

    def states(self, *ids: str) -> list[str]:
        """`space` for those that wait for it, else the state."""
        jobs = [self.job(id) for id in ids]
        return [str(job.reason) if job.reason is Reason.SPACE else str(job.state) for job in jobs]

    def holds(self, id: str) -> bool:
        return self.job(id).transfer is not None

    def why(self, id: str) -> str:
        return pipeline.why(self.services, id).text

    def full(self) -> tuple[str, str]:
        """Two jobs of unknown size that have half of the disk each, and have waited for a moment."""
        ids = self.wants(), self.wants()
        self.admit()
        for id in ids:
            self.fills(id, SIZE // 2)
        self.admit(SPACE_RETRY_S + 1)
        assert self.states(*ids) == ["space", "space"]
        return ids


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def told(job: Job) -> list[str]:
    return [event.text for event in job.events]


def test_two_that_fill_a_disk_between_them_go_on_one_after_the_other(disk: Disk) -> None:
    old, young = disk.full()
    disk.admit(PATIENCE_S - 60)
    assert (disk.holds(old), disk.holds(young)) == (True, True), "bytes are dear"
    assert "others that wait or failed hold 500.0 MiB of it; this one lets go of 500.0 MiB in about" in disk.why(young)
    assert "; one of them lets go of 500.0 MiB in about" in disk.why(old)

    disk.admit(60)
    assert (disk.holds(old), disk.holds(young)) == (True, False)
    assert told(disk.job(young))[-1].startswith("lets go of the 500.0 MiB fetched of it")
    disk.seen_anew()
    assert disk.free == SIZE // 2, "the owner of the engine has deleted it"
    disk.admit(2)
    assert disk.states(old, young) == ["downloading", "space"]
    disk.admit(10 * PATIENCE_S)
    assert disk.states(old, young) == ["downloading", "space"], "it begins anew where there is more room than it had"
    assert disk.why(young).startswith("waits: 500.0 MiB are not all of it, 0 B are free and not promised to other jobs")

    disk.engine.complete(disk.at_engine(old))
    disk.tick()
    pipeline.run(disk.services, pipeline.Step.FINISH)
    disk.tick(2)
    disk.held.clear()  # somebody takes the file away
    disk.admit(SPACE_RETRY_S)
    assert disk.states(old, young) == ["done", "downloading"]
    assert disk.job(young).transfer != disk.job(old).transfer


def test_one_at_a_time_lets_go_and_the_next_not_before_its_bytes_are_deleted(disk: Disk) -> None:
    ids = [disk.wants() for _ in range(3)]
    disk.admit()
    for id in ids:
        disk.fills(id, SIZE // 3 + 1)
    disk.foreign = 20 * MB
    disk.admit(SPACE_RETRY_S + 1)
    disk.admit(PATIENCE_S + 1)
    assert [disk.holds(id) for id in ids] == [True, True, False]
    for _ in range(3):
        disk.admit(PATIENCE_S + 1)
    assert [disk.holds(id) for id in ids] == [True, True, False], "its engine's owner has not come to it yet"
    disk.foreign = 400 * MB
    disk.seen_anew()
    disk.admit(2)
    assert [disk.holds(id) for id in ids] == [True, False, False], "it was not enough"


def test_a_standstill_begins_anew_when_one_of_those_who_hold_the_disk_begins_to_wait(disk: Disk) -> None:
    old, young = disk.wants(), disk.wants()
    disk.admit()
    disk.fetches(old, SIZE // 2)
    disk.fills(young, SIZE // 2)
    disk.admit(SPACE_RETRY_S + 1)
    disk.admit(2 * PATIENCE_S)
    assert disk.holds(young), "while one runs nobody lets go"
    disk.fills(old, SIZE // 2)
    disk.admit(SPACE_RETRY_S + 1)
    disk.admit(PATIENCE_S - 1)
    assert disk.holds(young)
    disk.admit(1)
    assert not disk.holds(young)


def test_room_that_comes_back_is_for_the_one_asked_for_first_whosever_turn_it_is(disk: Disk) -> None:
    old, young = disk.wants(), disk.wants(priority=9)
    disk.admit()
    for id in (old, young):
        disk.fills(id, SIZE // 2)
    disk.admit(SPACE_RETRY_S + 1)
    disk.foreign = -RESERVE - 20 * MB
    disk.admit(SPACE_RETRY_S + 1)
    assert disk.states(old, young) == ["downloading", "space"]
    job = disk.job(old)
    assert (job.least, job.claim) == (SIZE // 2, SIZE // 2 + 20 * MB), "and all of it is kept for it"
    assert disk.states(disk.wants(1 * MB)) == ["queued"]


@pytest.mark.parametrize("state", [State.FINISHING, State.QUEUED])
def test_while_one_is_put_in_place_or_is_tried_again_soon_nobody_lets_go(disk: Disk, state: State) -> None:
    third = disk.wants()
    disk.admit()
    if state is State.FINISHING:
        disk.engine.complete(disk.at_engine(third))
        disk.tick()
    else:
        job = disk.job(third)
        later = job.moved(State.QUEUED, 0.0, "again later", reason=Reason.SCHEDULE, not_before=1e9)
        assert disk.services.store.apply([Change(job, later)])[0].won
    old, young = disk.full()
    disk.admit(10 * PATIENCE_S)
    disk.admit(10 * PATIENCE_S)
    assert disk.job(third).state is state
    assert (disk.holds(old), disk.holds(young)) == (True, True)


def test_a_standstill_begins_anew_after_anything_ran_on_the_disk(disk: Disk) -> None:
    old, young = disk.full()
    assert disk.job(old).still_since == disk.now
    disk.admit(100)
    disk.foreign = -20 * MB
    small = disk.wants(1 * MB)
    disk.admit(1)
    disk.admit(1)
    assert disk.states(old, young, small) == ["space", "space", "downloading"]
    assert disk.job(old).still_since is None
    pipeline.control(disk.services, small, Action.CANCEL)
    disk.tick(3)
    disk.foreign = 0
    disk.admit(PATIENCE_S)
    disk.admit(PATIENCE_S - 10)
    assert disk.holds(young)
    disk.admit(10)
    assert not disk.holds(young)


def test_a_standstill_is_known_to_whoever_admits_next(disk: Disk) -> None:
    old, young = disk.full()
    disk.admit(1)
    disk.take_over()
    disk.services = replace(disk.services, owner="another")
    disk.admit(PATIENCE_S - 10)
    assert disk.holds(young)
    disk.admit(10)
    assert (disk.holds(old), disk.holds(young)) == (True, False)


def test_what_users_paused_is_not_touched_and_those_who_wait_are_told_of_it(disk: Disk) -> None:
    old, young = disk.wants(), disk.wants()
    disk.admit()
    disk.fetches(young, 300 * MB)
    pipeline.control(disk.services, young, Action.PAUSE)
    disk.tick(3)
    disk.fills(old, 700 * MB)
    disk.admit(SPACE_RETRY_S + 1)
    disk.admit(100 * PATIENCE_S)
    assert disk.states(old, young) == ["space", "paused"]
    assert (disk.holds(old), disk.holds(young)) == (True, True)
    assert disk.why(old).endswith("; paused jobs hold 300.0 MiB of the disk")


def test_one_that_had_all_the_room_there_is_fails_in_the_end_when_others_wait_for_it(disk: Disk) -> None:
    disk.foreign = 300 * MB
    runaway = disk.wants()
    disk.admit()
    disk.fills(runaway, 700 * MB)
    disk.admit(SPACE_RETRY_S + 1)
    disk.admit(100 * PATIENCE_S)
    assert disk.states(runaway) == ["space"], "it is in nobody's way, and somebody may make room"
    small = disk.wants(100 * MB)
    disk.admit(1)
    disk.admit(1)
    assert "; one of them lets go of 700.0 MiB in about" in disk.why(small)
    disk.admit(OUTSIDERS * PATIENCE_S - 10)
    assert disk.holds(runaway), "somebody may still make room"
    disk.admit(10)
    job = disk.job(runaway)
    assert (job.state, job.cause, job.transfer) == (State.FAILED, Cause.DISK, None)
    assert job.events[-1].type is EventType.FAILED
    assert job.message is not None
    assert job.message.startswith("it filled the disk with 700.0 MiB, all the room there was for it, and was not complete")
    assert disk.services.metrics.ended.labels(State.FAILED, Cause.DISK)._value.get() == 1
    assert disk.services.metrics.given_way._value.get() == 700 * MB
    disk.seen_anew()
    disk.admit(SPACE_RETRY_S)
    assert disk.states(small) == ["downloading"]


def test_outsiders_are_waited_for_longer_than_those_who_only_wait_for_each_other(disk: Disk) -> None:
    disk.foreign = 300 * MB
    large = disk.wants(900 * MB)
    disk.admit()
    assert disk.states(large) == ["space"]
    disk.foreign = 0
    disk.admit(SPACE_RETRY_S)
    disk.fills(large, 700 * MB)
    disk.foreign = 300 * MB
    disk.admit(SPACE_RETRY_S + 1)
    small = disk.wants(100 * MB)
    disk.admit(1)
    disk.admit(OUTSIDERS * PATIENCE_S - 10)
    assert disk.holds(large)
    disk.admit(10)
    assert disk.states(large, small) == ["space", "space"], "it waits for what it needs; nothing failed"
    assert not disk.holds(large)
    disk.seen_anew()
    disk.admit(SPACE_RETRY_S)
    assert disk.states(large, small) == ["space", "downloading"]


def test_one_that_fills_the_whole_volume_fails_at_once(disk: Disk) -> None:
    id = disk.wants()
    disk.admit()
    disk.fills(id, SIZE)
    disk.admit(SPACE_RETRY_S + 1)
    job = disk.job(id)
    assert (job.state, job.cause, job.transfer) == (State.FAILED, Cause.DISK, None)
    assert job.message == "1000.0 MiB are not all of it, and the disk has room for 984.0 MiB at most"


def test_what_a_failed_one_left_behind_goes_before_what_those_who_wait_have(disk: Disk) -> None:
    failed, old, young = disk.wants(), disk.wants(), disk.wants()
    disk.admit()
    disk.fetches(failed, 200 * MB)
    disk.engine.fail(disk.at_engine(failed), Fault(Cause.FORBIDDEN, False, "no"))
    disk.tick()
    for id in (old, young):
        disk.fills(id, 400 * MB)
    disk.admit(SPACE_RETRY_S + 1)
    assert disk.states(failed, old, young) == ["failed", "space", "space"]
    disk.admit(PATIENCE_S)
    assert [disk.holds(id) for id in (failed, old, young)] == [False, True, True]
    assert told(disk.job(failed))[-1].endswith("for nothing on the disk could go on; another try begins anew")
    disk.seen_anew()
    disk.admit(SPACE_RETRY_S)
    assert disk.states(old, young) == ["downloading", "space"]
    pipeline.control(disk.services, failed, Action.RETRY)
    assert disk.job(failed).state is State.QUEUED
