"""The records of an installation that has been used for a while."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.contract.store_jobs import NOW, a_job, a_torrent_job, admitted, described, started
from worker.jobs.events import EventType
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress, Result
from worker.jobs.states import Cause, State, Want
from worker.ports import JobFilter, JobStore, Run

TORRENTS = 10


def grow(store: JobStore, size: int) -> None:
    """Fill an empty store: jobs in every state with progress and marks, torrents of 1 kB to 2 MB, runs that went well and that did not.

    Args:
        size: how many jobs, and how many runs; a multiple of 160.
    """
    names = [store.keep_torrent(random.Random(i).randbytes(2_000_000 if i == 0 else 1_000 * (i + 1))) for i in range(TORRENTS)]
    jobs = [_job(number, names) for number in range(size)]
    for start in range(0, size, 100):
        store.insert(jobs[start : start + 100])
    lease = store.acquire_lease("engine:aria2", "an owner", 60)
    assert lease is not None
    store.record_progress({job.id: Progress(5, None, 2**40, 3, 4) for job in jobs[::7] if not job.terminal}, lease)
    store.release_lease(lease)
    store.mark_sent({job.id: job.version for job in jobs[::3]})
    store.keep_runs(
        [
            Run(
                name, f"{slot}", "host:1:ü", NOW + slot, NOW + slot + 0.125 if slot % 9 else None, slot % 5 != 0, {"slot": slot, "x": [1.5]}
            )
            for slot in range(size // 2)
            for name in ("backup", "drill")
        ]
    )


def everything(store: JobStore) -> tuple[list[Job], list[Run], dict[str, bytes]]:
    """All that a store shows: jobs and runs newest first, and the torrents of the jobs."""
    page = store.page(JobFilter(), 1_000)
    jobs = list(page.jobs)
    while page.cursor:
        page = store.page(JobFilter(), 1_000, page.cursor)
        jobs += page.jobs
    names = {job.description.document for job in jobs if job.description}
    return jobs, store.runs(None, 10_000), store.torrents(names)


def _job(number: int, names: list[str]) -> Job:
    state = list(State)[number % len(State)]
    user = f"user {number % 7} ü"
    new = a_torrent_job(f"t{number}", user) if number % 4 == 0 else a_job(f"🎬 {number}", user, priority=number % 3, name="a\u202eb")
    job = replace(new, created_at=NOW + number / 8, progress=Progress(number, 2**53, 17, 1, 2) if number % 5 == 0 else Progress())
    if number % 16 == 8:
        job = described(job, names[number // 16 % TORRENTS])
    for line in range(150 if number == 3 else number % 9):
        job = job.noted(
            NOW + line, f"line {line}", event=EventType.STARTED if line % 3 else None, data={"n": [line, 0.5, None, {"ü": True}]}
        )
    hook = Hook("" if number % 4 else "0123456789abcdef", "host:1", number % 3, number % 2, NOW, NOW + number) if number % 3 else None
    return replace(_moved(job, state, number), hook=hook)


def _moved(job: Job, state: State, number: int) -> Job:
    engine = "qbittorrent" if number % 2 else "aria2"
    at = NOW + number
    if state is State.QUEUED:
        return job
    job = admitted(job, engine)
    if state is State.SUBMITTING:
        return job
    job = replace(started(job, engine), want=Want.PAUSE if number % 6 == 0 else Want.RUN)
    if state is State.DOWNLOADING:
        return job
    if state is State.DONE:
        result = Result(f"/data/{number} ü", 2**53, "a" * 64 if number % 3 else None)
        return job.moved(State.FINISHING, at, "finishing", result=result).moved(State.DONE, at, "done", seeding=number % 3 == 0)
    if state is State.FAILED:
        return job.moved(state, at, "failed", cause=Cause.NOT_FOUND, message="no such file", event=EventType.FAILED)
    return job.moved(state, at, str(state))
