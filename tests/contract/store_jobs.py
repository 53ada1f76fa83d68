"""Jobs for the store's suites, in this process and in others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

from worker.jobs.description import Description
from worker.jobs.events import EventType
from worker.jobs.model import Job, Request, Source, SourceKind, Transfer, new_job
from worker.jobs.probe import Probe
from worker.jobs.states import Phase, State
from worker.ports import Change, JobStore

NOW = 1_700_000_000.0
WAIT_S = 10.0
T = TypeVar("T")


def a_job(key: str, user: str = "u", **request: Any) -> Job:
    """A queued job; the same for the same user and key."""
    return new_job(Request(Source(SourceKind.HTTP, f"https://host/{key}"), user, key, **request), NOW)


def some_jobs(n: int, user: str = "u") -> list[Job]:
    """Queued jobs, the same for the same number and user."""
    return [a_job(f"{i}", user) for i in range(n)]


def a_torrent_job(key: str, user: str = "u") -> Job:
    """A queued job whose `.torrent` file has to be fetched."""
    return new_job(Request(Source(SourceKind.TORRENT, f"https://host/{key}.torrent"), user, key), NOW)


def described(job: Job, document: str = "0" * 64) -> Job:
    """The job once its `.torrent` file is kept under the name `document`."""
    return job.noted(
        NOW, "described", description=Description(document, "a name", 2**40, 3, v1="1" * 40), probe=Probe(2**41, '"tag"', "Tue")
    )


def admitted(job: Job, engine: str = "aria2") -> Job:
    """The job on its way to an engine."""
    transfer = Transfer(job.id, engine, job.attempt, f"/data/.haul/{job.id}/{engine}", 30.0)
    return job.moved(State.SUBMITTING, NOW, "admitted", transfer=transfer, reason=None)


def started(job: Job, engine: str = "aria2") -> Job:
    """An admitted job the engine has."""
    return job.moved(State.DOWNLOADING, NOW, "started", event=EventType.STARTED, phase=Phase.TRANSFER)


def change(store: JobStore, old: Job, new: Job) -> Job:
    """Make a change that must win; the record."""
    (applied,) = store.apply([Change(old, new)])
    assert applied.won
    assert applied.job == new
    return new


def downloading(store: JobStore, key: str, engine: str = "aria2", user: str = "u") -> Job:
    """A recorded job that downloads."""
    job = a_job(key, user)
    store.insert([job])
    submitted = change(store, job, admitted(job, engine))
    return change(store, submitted, started(submitted))


def joined(lists: Iterable[list[T]]) -> list[T]:
    """One list of many."""
    return list(chain.from_iterable(lists))


def until(true: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    """Look again and again; fail after `wait_s`."""
    for _ in ticks(wait_s):
        if true():
            return
    raise AssertionError(f"not within {wait_s:g} s")


def ticks(wait_s: float = WAIT_S) -> Iterator[None]:
    """A tick each hundredth of a second, for `wait_s`."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        yield
        time.sleep(0.01)
