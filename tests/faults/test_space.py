"""Space: more is asked for than a disk can hold at once"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from tests.e2e.stack import CeleryWorker, Stack, digest, eventually, sha256, story
from tests.faults.catalogue import fault
from tests.faults.test_disk import Small, fill, free, small_volume
from worker import pipeline
from worker.jobs.states import TERMINAL, Reason, State

MIB = 1024 * 1024
VOLUME = 256 * MIB
RESERVE = 16 * MIB
JOBS = 50
#: Control files of aria2, directories, and the page that a file's end rounds up to.
SLACK = 1 * MIB
TIMEOUT_S = 240
DONE = ["job.queued", "job.started", "job.completed"]


class Gauge:
    """Looks at the free space of a volume all the time, in a thread; a context manager.

    Attributes:
        least: the smallest it has seen.
    """

    def __init__(self, volume: Path) -> None:
        self._volume = volume
        self.least = free(volume)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.least = min(self.least, free(self._volume))

    def __enter__(self) -> Gauge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)


def take_all(stack: Stack, asked: dict[str, tuple[int, int]]) -> list[str]:
    """Take each finished file away once it is looked at, until every job has ended; what was wrong with them."""
    wrong, left, deadline = [], dict(asked), time.monotonic() + TIMEOUT_S
    while left:
        assert time.monotonic() < deadline, f"{len(left)} are left: {[story(stack.job(id)) for id in list(left)[:3]]}\n{stack.tail(30)}"
        for id, job in stack.services.store.get(left).items():
            if job.state in TERMINAL:
                size, seed = left.pop(id)
                if job.state is not State.DONE or job.result is None or sha256(job.result.path) != digest(size, seed):
                    wrong.append(story(job))
                if job.result is not None:
                    Path(job.result.path).unlink()
        time.sleep(0.05)
    return wrong


@fault(
    "Jobs ask for several times the space of a disk",
    provoked="50 jobs of random sizes on a tmpfs of 256 MiB, two workers, aria2; a consumer takes each finished file away",
    holds="the disk is never full, nor is what is to stay free taken; all jobs end as done, at their first attempt, with the right bytes",
)
def test_fifty_jobs_on_a_small_disk_are_all_done_and_it_is_never_full(tmp_path: Path) -> None:
    draw = random.Random(5)
    sizes = [draw.choice((draw.randrange(1, MIB), draw.randrange(MIB, 20 * MIB), draw.randrange(20 * MIB, 90 * MIB))) for _ in range(JOBS)]
    with Small(tmp_path / "s", slots=16) as stack, small_volume(stack.downloads, VOLUME / 1_000_000):
        stack.work(CeleryWorker)
        stack.work(ready=False)
        with Gauge(stack.downloads) as gauge:
            specs = [{"uri": f"file/f{n}?size={size}&seed={n}", "user": f"u{n % 5}"} for n, size in enumerate(sizes)]
            ids = stack.ask_all(specs)
            wrong = take_all(stack, {id: (size, n) for n, (id, size) in enumerate(zip(ids, sizes, strict=True))})
        waited = sum(
            any("not promised to other jobs" in event.text for event in job.events) for job in stack.services.store.get(ids).values()
        )
        print(f"{sum(sizes) / MIB:.0f} MiB on {VOLUME / MIB:.0f}; {waited} waited for space; least free {gauge.least / MIB:.1f} MiB")
        assert wrong == []
        assert gauge.least >= RESERVE - SLACK
        assert waited > 0, "or nothing was shown"
        assert {job.attempt for job in stack.services.store.get(ids).values()} == {1}
        assert {tuple(stack.told(id)) for id in ids} == {tuple(DONE)}
        assert {path: served for path, served in stack.origin.requests.items() if served != 1} == {}


@fault(
    "There is no space for a job, and later there is",
    provoked="a tmpfs of 128 MiB with 40 MiB free, a job of 60 MiB and one of 2 MiB; then a file is deleted by somebody else",
    holds="the large one waits without being tried, says what it needs and what there is; the small one passes; it starts within seconds",
)
def test_a_job_that_does_not_fit_waits_says_so_and_starts_when_space_is_back(tmp_path: Path) -> None:
    size = 60 * MIB
    with Small(tmp_path / "s") as stack, small_volume(stack.downloads, 128 * MIB / 1_000_000):
        stack.work()
        filler = fill(stack.downloads, 40 * MIB)
        id = stack.ask(f"file/x?size={size}", "u")
        eventually(lambda: stack.job(id).reason is Reason.SPACE, "it waits for space", seen=lambda: story(stack.job(id)))
        told = pipeline.why(stack.services, id)
        assert told.text.startswith("waits: needs 60.0 MiB, 24.0 MiB are free and not promised to other jobs"), told
        stack.check_delivered(stack.ask(f"file/y?size={2 * MIB}", "u"), digest(2 * MIB))
        assert stack.origin.requests["/file/x"] == 0

        filler.unlink()
        begun = time.monotonic()
        stack.until(id, "downloading", "finishing", "done")
        print(f"started {time.monotonic() - begun:.1f} s after there was space")
        assert time.monotonic() - begun < 10
        stack.check_delivered(id, digest(size))
        assert stack.told(id) == DONE


@fault(
    "A job is larger than the whole disk",
    provoked="a tmpfs of 64 MiB, a job of 60 MiB",
    holds="it fails at once with the cause `refused`, in words, and is told so; nothing is downloaded",
)
def test_what_can_never_fit_is_refused(tmp_path: Path) -> None:
    with Small(tmp_path / "s") as stack, small_volume(stack.downloads, 64 * MIB / 1_000_000):
        stack.work()
        id = stack.ask(f"file/x?size={60 * MIB}", "u")
        job = stack.until(id, "failed")
        assert (job.cause, "it needs 60.0 MiB, and the disk has room for 48.0 MiB at most" in job.message) == ("refused", True), job.message
        assert stack.told(id) == ["job.queued", "job.refused"]
        assert stack.origin.requests["/file/x"] == 0
