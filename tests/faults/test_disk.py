"""Disks: full, read-only, and files that are deleted behind our back"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import SERVICES, Stack, digest, eventually, sha256, story
from tests.faults.catalogue import fault
from tests.faults.downloads import ENGINES, RATE, ask, check, served
from worker import pipeline
from worker.jobs.errors import Transient
from worker.jobs.model import Job
from worker.jobs.requests import parse
from worker.jobs.states import Cause, Reason, State
from worker.limits import FREE_BYTES_MIN

MB = 1_000_000
SIZE = 30 * MB
#: From the moment there is space: the next try, and the download.
GOES_ON_S = 75


@contextlib.contextmanager
def small_volume(path: Path, megabytes: float) -> Iterator[Path]:
    """A volume of its own at this path, in memory."""
    path.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * MB)}", "none", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small volume cannot be mounted, which needs root: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def free(volume: Path) -> int:
    """Bytes for whoever asks."""
    about = os.statvfs(volume)
    return about.f_bavail * about.f_frsize


def fill(volume: Path, leave: int) -> Path:
    """Take all the space but so many bytes; what to delete to have it back."""
    path = volume / "filler"
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), file.tell(), max(1, free(volume) - leave))
    return path


class Small(Stack):
    """A stack that leaves little free."""

    def environment(self) -> dict[str, str]:
        """See `Stack.environment`."""
        return {**super().environment(), "HAUL_SPACE_RESERVE": str(FREE_BYTES_MIN)}


class Unasked(Small):
    """It knows no size before the engine does: the engine finds the disk full, not admission."""

    def environment(self) -> dict[str, str]:
        """See `Stack.environment`."""
        return {**super().environment(), "HAUL_PROBE": "never"}


class OtherVolume(Unasked):
    """aria2's downloads lie on one volume, those of qBittorrent on another."""

    def environment(self) -> dict[str, str]:
        """See `Stack.environment`."""
        found = super().environment()
        first, _, second = found["HAUL_ENGINES"].partition(",")
        second = second.replace(f"dir={self.downloads}", f"dir={self.directory / 'other'}")
        return {**found, "HAUL_ENGINES": f"{first},{second}"}


def waits_for_space(stack: Stack, id: str) -> Job:
    """The job once it waits for space."""

    def look() -> Job | None:
        job = stack.job(id)
        return job if (job.state, job.reason) == (State.QUEUED, Reason.SPACE) else None

    return eventually(look, "it waits for space", seen=lambda: f"{story(stack.job(id))}\n{stack.tail(30)}")


def nothing_failed(stack: Stack, id: str) -> None:
    job = stack.job(id)
    assert (job.attempt, job.failures) == (1, 0), story(job)
    assert stack.told(id) == ["job.queued", "job.started", "job.completed"]


@fault(
    "The disk is full, and has no room for the whole file",
    provoked="a tmpfs of 64 MB with 20 MB free, a download of 30 MB; the rest is freed later; another engine on another disk",
    holds="it waits with reason `space`, says so, counts no failure and ends by itself with the right bytes; the other disk's jobs end",
)
@pytest.mark.parametrize("form", ["file", "nolength"], ids=["of a length that it tells", "of unknown length"])
def test_on_a_full_disk_a_download_of_aria2_waits_and_ends_when_there_is_space(tmp_path: Path, form: str) -> None:
    with OtherVolume(tmp_path / "s", engines=ENGINES) as stack, small_volume(stack.downloads, 64):
        (stack.directory / "other").mkdir()
        stack.work()
        filler = fill(stack.downloads, 20 * MB)

        id = stack.ask(f"{form}/x?size={SIZE}", "u", engine="aria2")
        waits_for_space(stack, id)
        told = pipeline.why(stack.services, id)
        noticed = "free and not promised to other jobs" in told.text  # by the owner of the engine, before that met the full disk
        assert (told.reason, noticed or "no space left on the disk" in told.text) == ("space", True), told
        other = ask(stack, "qbittorrent", "elsewhere", MB)
        assert stack.until(other, "done").result is not None

        filler.unlink()
        stack.until(id, "done", timeout_s=GOES_ON_S)
        stack.check_delivered(id, digest(SIZE))
        nothing_failed(stack, id)


@fault(
    "The disk is full while nobody looks, and aria2 leaves an empty control file, with which no download goes on",
    provoked="a tmpfs that somebody else fills while the supervisor is frozen and a download of 30 MB runs; the space is freed later",
    holds="the job waits, the files are healed, and it ends by itself with the right bytes",
)
def test_a_control_file_that_a_full_disk_left_empty_is_healed(tmp_path: Path) -> None:
    with Small(tmp_path / "s") as stack, small_volume(stack.downloads, 64) as volume:
        worker = stack.work()
        id = stack.ask(f"file/x?size={SIZE}&rate={6 * MB}", "u", engine="aria2")
        stack.until_bytes("/file/x", MB)
        control = stack.work_directory(id) / "aria2" / "x.aria2"
        os.kill(worker.pid, signal.SIGSTOP)
        filler = fill(volume, 0)
        eventually(lambda: control.exists() and control.stat().st_size == 0, "this is what has to be healed")
        os.kill(worker.pid, signal.SIGCONT)
        job = waits_for_space(stack, id)
        assert (job.attempt, job.failures) == (1, 0), story(job)

        filler.unlink()
        stack.until(id, "done", timeout_s=GOES_ON_S)
        stack.check_delivered(id, digest(SIZE))
        nothing_failed(stack, id)


@fault(
    "The disk is full while a torrent is downloaded by qBittorrent",
    provoked="a tmpfs of 64 MB that somebody else fills while a torrent of 30 MB runs; it is freed later",
    holds="the job waits with reason `space`, counts no failure, keeps what it has and ends with the right bytes",
)
def test_on_a_full_disk_a_torrent_of_qbittorrent_waits_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with Small(tmp_path / "s", engines=("qbittorrent",)) as stack, small_volume(stack.downloads, 64):
        stack.work()
        id = ask(stack, "qbittorrent", "x", SIZE, rate=5 * MB)
        eventually(lambda: served(stack, "x") > MB, "it runs")
        filler = fill(stack.downloads, 5 * MB)
        waits_for_space(stack, id)
        assert free(stack.downloads) < FREE_BYTES_MIN
        filler.unlink()
        stack.until(id, "done", timeout_s=GOES_ON_S)
        check(stack, id, "x", SIZE)
        nothing_failed(stack, id)


@fault(
    "The disk is full that a finished download is moved to",
    provoked="a tmpfs that is filled meanwhile as the place of an 8 MB file that lies on another disk; the space is freed later",
    holds="the job stays `finishing`, says what it waits for, takes no space meanwhile, and ends in place by itself",
)
def test_what_cannot_be_moved_for_want_of_space_is_moved_later(tmp_path: Path) -> None:
    size = 8 * MB
    with Small(tmp_path / "s") as stack, small_volume(tmp_path / "out", 32) as out:
        stack.work()
        spec = {"uri": stack.origin.url(f"file/x?size={size}&rate={4 * MB}"), "user": "u", "out": str(out)}
        [answer] = pipeline.accept(stack.services, [parse(spec, owner=True)])
        assert isinstance(answer, pipeline.Accepted)
        id = answer.job.id
        stack.until(id, "downloading")
        filler = fill(out, size // 2)
        stack.until(id, "finishing")
        eventually(lambda: "No space left" in pipeline.why(stack.services, id).text, "it says so", seen=lambda: story(stack.job(id)))
        assert free(out) == size // 2 or free(out) > size // 2 - 65536
        assert stack.job(id).state is State.FINISHING

        filler.unlink()
        job = stack.until(id, "done", timeout_s=GOES_ON_S)
        assert job.result is not None
        assert sha256(job.result.path) == digest(size)
        assert [entry.name for entry in out.iterdir()] == ["x"]
        nothing_failed(stack, id)
        assert stack.origin.bytes_served["/file/x"] == size


@fault(
    "The disk of the records (SQLite) is full",
    provoked="the database lies on a tmpfs that is filled while downloads run; the space is freed later",
    holds="doors answer a temporary error that says so; nothing regresses; all jobs end once, and are told in order",
)
@pytest.mark.skipif(SERVICES, reason="the records are in MongoDB")
def test_when_the_disk_of_the_records_is_full_doors_say_so_and_everything_goes_on_later(tmp_path: Path) -> None:
    with (
        small_volume(tmp_path / "records", 16) as volume,
        Stack(tmp_path / "s", store_url=f"sqlite:///{volume / 'haul.db'}") as stack,
    ):
        stack.work()
        running = [ask(stack, "aria2", f"r{n}", RATE * 3) for n in range(3)]
        for n in range(3):
            stack.until_bytes(f"/file/r{n}", RATE // 2)
        filler = fill(volume, 0)
        with pytest.raises(Transient, match="the disk is full"):
            ask(stack, "aria2", "refused", 1000)
        eventually(lambda: all(served(stack, f"r{n}") >= RATE * 3 for n in range(3)), "the engine goes on")

        filler.unlink()
        for n, id in enumerate(running):
            stack.until(id, "done", timeout_s=GOES_ON_S)
            check(stack, id, f"r{n}", RATE * 3)
            nothing_failed(stack, id)
        check(stack, ask(stack, "aria2", "after", 1000), "after", 1000)
        assert [worker.ended() for worker in stack.workers] == [None]


@fault(
    "Somebody deletes the work directory of a download",
    provoked="rm -r while it runs, on each engine",
    holds="what is put in place has the right bytes, for it is fetched again, or the job ends with a cause",
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_work_directory_that_was_deleted_is_not_delivered_with_holes(tmp_path: Path, engine: str) -> None:
    size = RATE * 6
    with Stack(tmp_path / "s", engines=(engine,)) as stack:
        stack.work()
        id = ask(stack, engine, "x", size)
        eventually(lambda: served(stack, "x") > RATE * 2, "it runs")
        shutil.rmtree(stack.work_directory(id))
        job = stack.until(id, "done", "failed", timeout_s=GOES_ON_S)
        if job.state is State.DONE:
            check(stack, id, "x", size)
        else:
            assert job.cause in (Cause.INCOMPLETE, Cause.DISK), story(job)
            assert not (stack.downloads / id).exists()


@fault(
    "Somebody deletes a file that is complete and not yet in place",
    provoked="rm while nobody finishes, on each engine",
    holds="it is fetched again and delivered once",
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_complete_file_that_was_deleted_is_fetched_again(tmp_path: Path, engine: str) -> None:
    with Stack(tmp_path / "s", engines=(engine,)) as stack:
        stack.work()
        eventually(lambda: stack.services.coordinator.claim("finish:quick", "test", 60), "nobody finishes anything")
        id = ask(stack, engine, "x", MB, rate=0)
        stack.until(id, "finishing")
        (stack.work_directory(id) / engine / "x").unlink()
        stack.services.coordinator.unclaim("finish:quick", "test")

        stack.until(id, "done", timeout_s=GOES_ON_S)
        check(stack, id, "x", MB)


@fault(
    "A disk is read-only",
    provoked="a tmpfs mounted read-only as the work directory of a download, on each engine, and as the place it is to be moved to",
    holds="the jobs end as failed, with the cause `disk`, in words, and are told so; others go on",
)
@pytest.mark.parametrize("engine", ENGINES)
def test_on_a_read_only_disk_a_download_fails_with_its_cause(tmp_path: Path, engine: str) -> None:
    with Small(tmp_path / "s", engines=(engine,)) as stack, small_volume(tmp_path / "out", 32) as out:
        id = ask(stack, engine, "x", MB, rate=0)
        with small_volume(stack.work_directory(id) / engine, 16) as work:
            for volume in (work, out):
                subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
            stack.work()
            spec = {"uri": stack.origin.url("file/y"), "user": "u", "out": str(out)}
            answers = pipeline.accept(stack.services, [parse(spec, owner=True)] if engine == "aria2" else [])
            ids = [id, *(answer.job.id for answer in answers if isinstance(answer, pipeline.Accepted))]
            for each in ids:
                job = stack.until(each, "failed")
                assert job.cause is Cause.DISK, story(job)
                assert stack.told(each)[-1] == "job.failed"
            check(stack, ask(stack, engine, "other", MB, rate=0), "other", MB)
