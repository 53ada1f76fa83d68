"""Of the progress of a job the last word stays, whoever of a process said it, and whatever was kept back of what was said before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store_jobs import a_job, admitted
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.metrics import Metrics
from worker.ports import Change, Lease
from worker.store.batching import BatchingStore
from worker.store.held import Holding
from worker.store.sqlite.store import SqliteStore

OF_THE_FIRST = Progress(100, 1_000, allocated=700)
ANEW = Progress(0, 1_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BatchingStore]:
    store = BatchingStore(SqliteStore(tmp_path / "haul.db"), Metrics(), holding=Holding(hold_s=60.0))
    yield store
    store.close()


def kept_back(store: BatchingStore, job: Job) -> Job:
    """The owner of an engine records progress, of which the last is held back."""
    store.insert([job])
    (applied,) = store.apply([Change(job, admitted(job, "a"))])
    owner = lease(store, "engine:a")
    for done in (1, OF_THE_FIRST.done):
        store.record_progress({job.id: Progress(done, 1_000, allocated=700)}, owner)
    assert applied.job is not None
    return applied.job


def lease(store: BatchingStore, name: str) -> Lease:
    found = store.acquire_lease(name, "test", 600.0)
    assert found is not None
    return found


@pytest.mark.parametrize("busy", [False, True])
def test_what_an_owner_held_back_is_not_written_over_what_admission_says_later(store: BatchingStore, busy: bool) -> None:
    job, other = kept_back(store, a_job("moves")), a_job("other")
    admission = lease(store, "admit")
    if busy:  # what it says next is held back, too
        store.insert([other])
        store.record_progress({other.id: ANEW}, admission)
    store.record_progress({job.id: ANEW}, admission)
    store.apply([Change(job, job.noted(1.0, "admitted to another engine"))], admission)
    for read in (store, store._inner):
        assert read.get([job.id])[job.id].progress == ANEW


def test_of_one_owner_what_was_held_back_is_written_before_the_change(store: BatchingStore) -> None:
    job = kept_back(store, a_job("stays"))
    store.apply([Change(job, job.noted(1.0, "all bytes are here"))], lease(store, "engine:a"))
    assert store._inner.get([job.id])[job.id].progress == OF_THE_FIRST


def test_what_an_owner_held_back_of_a_job_that_another_process_gave_to_another_engine_is_not_shown_or_written(store: BatchingStore) -> None:
    job = kept_back(store, a_job("moves"))
    back = job.moved(State.QUEUED, 1.0, "it goes on elsewhere", attempt=2)
    elsewhere = admitted(back, "b")
    store._inner.apply([Change(job, back), Change(back, elsewhere)])
    store._inner.record_progress({job.id: ANEW}, lease(store, "admit"))
    assert store.get([job.id])[job.id].progress == ANEW
    store.release_lease(lease(store, "engine:a"))  # what it keeps is written first
    assert store._inner.get([job.id])[job.id].progress == ANEW
