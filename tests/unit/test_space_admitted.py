"""Admission and a disk that is too small, step by step: a real store, an engine in memory, and a volume of the test's own."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Machine
from tests.torrents import pack
from worker import pipeline
from worker.admission import space
from worker.admission.admit import admit
from worker.admission.doors import record
from worker.admission.space import Volume
from worker.api.problems import of_rejected
from worker.jobs.errors import NoRoom
from worker.jobs.events import EventType
from worker.jobs.model import Progress, Request, Source, SourceKind, new_job
from worker.jobs.probe import Probe
from worker.jobs.requests import parse
from worker.jobs.states import Action, Cause, Reason, State
from worker.limits import SHORT_ASIDE_S, SHORT_LOOK, SHORT_PATIENCE_S
from worker.ports import Change, Item, ItemStatus
from worker.supervision import allocation, board
from worker.supervision.allocation import GAIN_BYTES, Allocation

MB = 1024 * 1024
RESERVE = 16 * MB
SIZE = 1000 * MB


class Disk(Machine):
    """The machine on a volume whose free space the test says.

    Attributes:
        used: bytes that lie there.
        unseen: this process does not see it.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used, self.unseen = 0, False
        monkeypatch.setattr(space, "_seen", lambda _path: None if self.unseen else (7, Volume(SIZE, SIZE - self.used)))
        monkeypatch.setattr(board, "PROGRESS_STORE_S", float("inf"))  # what the engine has is small; the test says how much it is
        super().__init__(directory, space_reserve=RESERVE)
        self._asked = 0

    def wants(self, size: int | None, **changes: Any) -> str:
        """A job of so many bytes that waits for its turn."""
        self._asked += 1
        source = Source(SourceKind.MAGNET, f"magnet:?xt=urn:btih:{self._asked:040x}")  # of its own, or they would share a download
        job = replace(new_job(Request(source, "u", f"k{self._asked}"), self._asked), **changes)
        job = replace(job, probe=None if size is None else Probe(size))
        record(self.services, [job])
        return job.id

    def admit(self) -> None:
        self.tick()
        while admit(self.services, 100):
            pass

    def states(self, *ids: str) -> list[str]:
        """`space` for those that wait for it, else the state."""
        jobs = [self.job(id) for id in ids]
        return [str(job.reason) if job.reason is Reason.SPACE else str(job.state) for job in jobs]

    def allocated(self, id: str, size: int) -> None:
        """The owner has measured and recorded it."""
        self.services.store.record_progress({id: Progress(allocated=size)}, self._lease)

    def why(self, id: str) -> str:
        return pipeline.why(self.services, id).text


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def test_jobs_of_one_batch_share_what_is_left_and_the_next_batch_knows(disk: Disk) -> None:
    first, second, third = disk.wants(500 * MB), disk.wants(484 * MB), disk.wants(1 * MB)
    disk.admit()
    assert disk.states(first, second, third) == ["submitting", "submitting", "space"]
    late = disk.wants(1 * MB)
    disk.admit()
    assert disk.states(late) == ["space"]


def test_one_that_waits_says_how_much_is_missing_and_starts_by_itself_when_space_is_back(disk: Disk) -> None:
    disk.used = 700 * MB
    id = disk.wants(500 * MB)
    disk.admit()
    assert disk.why(id) == "waits: needs 500.0 MiB, 284.0 MiB are free and not promised to other jobs"
    job = disk.job(id)
    assert (job.reason, job.events[-1].text) == (Reason.SPACE, disk.why(id))
    assert job.short_since == disk.now
    version = job.version
    for _ in range(3):
        disk.now += 2
        disk.admit()
    assert disk.job(id).version == version, "waiting writes nothing"
    disk.used = 400 * MB
    disk.now += 2
    disk.admit()
    assert disk.states(id) == ["submitting"]
    assert disk.job(id).short_since is None


def test_what_a_job_has_allocated_is_not_kept_a_second_time(disk: Disk) -> None:
    first = disk.wants(600 * MB)
    disk.admit()
    disk.used = 600 * MB  # allocated, and not recorded yet
    second = disk.wants(300 * MB)
    disk.admit()
    assert disk.states(second) == ["space"]
    disk.allocated(first, 600 * MB)
    disk.now += 2
    disk.admit()
    assert disk.states(second) == ["submitting"]


def test_a_paused_job_keeps_its_space_and_a_cancelled_one_does_not(disk: Disk) -> None:
    first, second = disk.wants(600 * MB), disk.wants(600 * MB)
    disk.admit()
    disk.tick()
    pipeline.control(disk.services, first, Action.PAUSE)
    disk.tick(3)
    disk.now += 60
    disk.admit()
    assert disk.states(first, second) == ["paused", "space"]
    pipeline.control(disk.services, first, Action.CANCEL)
    disk.tick(3)
    disk.now += 60
    disk.admit()
    assert disk.states(first, second) == ["cancelled", "submitting"]


def test_a_size_that_was_wrong_is_corrected_once_the_engine_knows(disk: Disk) -> None:
    first = disk.wants(100 * MB)
    disk.admit()
    disk.services.store.record_progress({first: Progress(total=900 * MB)}, disk._lease)
    second = disk.wants(200 * MB)
    disk.admit()
    assert disk.states(second) == ["space"]


def test_what_can_never_fit_fails_at_once_and_says_why(disk: Disk) -> None:
    disk.used = SIZE
    id = disk.wants(985 * MB)
    disk.admit()
    job = disk.job(id)
    assert (job.state, job.cause) == (State.FAILED, Cause.REFUSED)
    assert job.message is not None
    assert job.message.startswith("size: it needs 985.0 MiB, and the disk has room for 984.0 MiB at most (")
    assert disk.why(id).startswith(f"it failed: {job.message}; ")
    assert (job.events[-1].type, job.events[-1].data["field"]) == (EventType.REFUSED, "size")
    assert disk.services.coordinator.waiting_size() == 0


def test_a_torrent_that_can_never_fit_is_refused_at_the_door(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pack()
    spec = {"torrent": base64.b64encode(made.document).decode(), "user": "u"}
    [answer] = pipeline.accept(disk.services, [parse(spec)])
    assert isinstance(answer, pipeline.Accepted)
    monkeypatch.setattr(space, "_seen", lambda _path: (7, Volume(RESERVE + made.size - 1, 0)))
    [refused] = pipeline.accept(disk.services, [parse(spec)])
    assert isinstance(refused, NoRoom)
    assert (refused.field, "and the disk has room for" in refused.detail) == ("torrent", True)
    assert of_rejected(refused).status_code == 507
    [some] = pipeline.accept(disk.services, [parse({**spec, "select": "1"})])
    assert isinstance(some, pipeline.Accepted), "the selected files fit"


def test_small_jobs_pass_a_large_one_for_a_time_and_then_it_goes_first(disk: Disk) -> None:
    running = disk.wants(300 * MB)
    disk.admit()
    large = disk.wants(900 * MB)
    disk.admit()
    small = disk.wants(100 * MB)
    disk.admit()
    assert disk.states(running, large, small) == ["downloading", "space", "submitting"]

    disk.now += SHORT_PATIENCE_S
    late = disk.wants(100 * MB)
    disk.admit()
    assert disk.states(large, late) == ["space", "space"]
    assert disk.why(late) == "waits: needs 100.0 MiB, and a job that has waited longer for 900.0 MiB goes first"
    for id in (running, small):
        pipeline.control(disk.services, id, Action.CANCEL)
    disk.tick(3)
    disk.now += SHORT_ASIDE_S
    disk.admit()
    assert disk.states(large, late) == ["submitting", "space"]


def test_a_large_job_that_space_never_comes_back_for_does_not_hold_up_the_others_for_ever(disk: Disk) -> None:
    disk.used = 500 * MB
    large = disk.wants(900 * MB)
    disk.admit()
    disk.now += SHORT_PATIENCE_S
    small = disk.wants(100 * MB)
    disk.admit()
    assert disk.states(large, small) == ["space", "space"]
    disk.now += SHORT_PATIENCE_S
    disk.admit()
    assert disk.states(large, small) == ["space", "submitting"]


def test_those_that_have_waited_longest_are_looked_at_each_time_though_others_are_put_aside(disk: Disk) -> None:
    disk.used = SIZE
    ids = [disk.wants(100 * MB) for _ in range(SHORT_LOOK + 5)]
    disk.admit()
    assert set(disk.states(*ids)) == {"space"}
    disk.used = 0
    assert disk.services.coordinator.waiting_heads(100, disk.now).lines == (), "all are aside"
    admit(disk.services, 100)
    assert disk.states(*ids).count("submitting") == 9


def test_a_volume_that_only_its_owner_sees_is_believed_as_far_as_it_goes(disk: Disk) -> None:
    disk.unseen = True
    id = disk.wants(2**60)
    disk.admit()
    assert disk.states(id) == ["space"], "its snapshot tells what is free"


def test_after_a_crash_between_record_and_index_the_space_is_kept_once(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    first = disk.wants(600 * MB)

    class Killed(BaseException):
        pass

    def dies(_ids: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(disk.services.coordinator, "drop_waiting", dies)
        with pytest.raises(Killed):
            disk.admit()
    second, third = disk.wants(600 * MB), disk.wants(384 * MB)
    disk.now += 60  # the dead one's lease has run out
    while admit(disk.services, 100):
        pass
    assert disk.states(first, second, third) == ["submitting", "space", "submitting"]


def test_space_that_comes_back_is_noticed_once(tmp_path: Path) -> None:
    seen = Allocation(Machine(tmp_path).engine)
    assert [seen.gained(free) for free in (None, 50 * MB, 50 * MB, 40 * MB, 40 * MB + GAIN_BYTES - 1)] == [False] * 5
    assert [seen.gained(free) for free in (40 * MB + GAIN_BYTES, 40 * MB + GAIN_BYTES)] == [True, False]


def test_the_owner_records_what_a_download_takes_on_the_disk(disk: Disk) -> None:
    id = disk.wants(None)
    disk.admit()
    disk.tick()
    handle = disk.handle(id)
    disk.engine.complete(handle)
    disk.tick()
    job = disk.job(id)
    assert job.state is State.FINISHING
    assert job.progress.allocated >= job.progress.done > 0
    assert [kept.owed for kept in disk.services.store.promised()] == [0]


def test_a_job_that_found_the_disk_full_gives_up_its_space_and_needs_only_the_rest(disk: Disk) -> None:
    id = disk.wants(600 * MB)
    disk.admit()
    job = disk.job(id)
    assert job.transfer
    Path(job.transfer.directory).mkdir(parents=True, exist_ok=True)
    [applied] = disk.services.store.apply([Change(job, job.moved(State.QUEUED, 0.0, "full", reason=Reason.SPACE, message="full"))])
    assert applied.won
    other = disk.wants(700 * MB)
    disk.admit()
    assert disk.states(other) == ["submitting"], "nothing is kept for the other any more"


def test_directories_are_measured_in_turn_and_not_at_every_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = [100.0], list[str]()

    def measure(directory: str, _most: int) -> tuple[int, int]:
        looks.append(Path(directory).parent.name)
        return 5, allocation.LOOK_MAX // 2

    monkeypatch.setattr(allocation.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(allocation, "allocated_bytes", measure)
    seen = Allocation(Machine(tmp_path).engine)
    items = {name: Item(name, ItemStatus.RUNNING, name, Progress(7)) for name in "abc"}
    shown = []
    for _ in range(12):
        shown.append({name: progress.allocated for name, progress in seen.measured(items).items()})
        clock[0] += 0.5
    assert shown[0] == {"a": 5, "b": 5, "c": 0}, "so many at one look"
    assert shown[2] == {"a": 5, "b": 5, "c": 5}
    assert looks == ["a", "b", "c", "a", "b"], "each once in five seconds"
    assert seen.measured({"a": items["a"]})["a"] == Progress(7, allocated=5)
