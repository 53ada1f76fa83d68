"""What the suites of every `JobStore` stand on: the store under test, and jobs in it.

An implementation's test is a subclass of `StoreSuite` of `store_contract` and a fixture `opener`: a picklable function of no
arguments that opens the same store again, in this process or another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, change, started
from worker.jobs.hooks import Hook
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import JobStore, Lease

Opener = Callable[[], JobStore]
LONG_S = 600.0
SHORT_S = 0.2


class StoreFixtures:
    """The store under test; `opener` comes from the implementation."""

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[JobStore]:
        store = opener()
        yield store
        store.close()


def lease_of(store: JobStore, name: str = "engine:aria2", owner: str = "a", ttl_s: float = LONG_S) -> Lease:
    """A lease that must be free."""
    lease = store.acquire_lease(name, owner, ttl_s)
    assert lease is not None
    return lease


def end(store: JobStore, job: Job, state: State) -> Job:
    """Bring a downloading job to a terminal state, by the moves of the table."""
    if state is State.DONE:
        job = change(store, job, job.moved(State.FINISHING, NOW, "finishing"))
    return change(store, job, job.moved(state, NOW, str(state)))


HOOK = Hook("r", "host:1")


def hooked(store: JobStore, key: str, hook: Hook = HOOK) -> Job:
    """A recorded job that downloads, with a webhook: its events have the versions 1 and 3."""
    job = replace(a_job(key), hook=hook)
    store.insert([job])
    submitted = change(store, job, admitted(job))
    return change(store, submitted, started(submitted))
