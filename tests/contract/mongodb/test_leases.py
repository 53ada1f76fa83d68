"""Holders of a lease that are stopped between reading it and writing."""

from __future__ import annotations

import pytest

from tests.contract.store_jobs import NOW, downloading, until
from tests.contract.store_suite import lease_of
from tests.mongo_proxy import MongoProxy
from worker.jobs.errors import LeaseLost
from worker.jobs.model import Progress
from worker.ports import Change, JobStore

#: Long enough for the lease to be read while it is one, on a slow machine too.
READ_S = 1.5


def test_a_holder_that_is_stopped_between_reading_its_lease_and_writing_changes_nothing(
    far: JobStore, proxy: MongoProxy, store: JobStore
) -> None:
    job = downloading(store, "k")
    lease = lease_of(store, owner="a", ttl_s=READ_S)
    taken = []

    def taken_over() -> None:
        until(lambda: store.now() > lease.until)
        taken.append(lease_of(store, owner="b"))

    proxy.hold("update", taken_over)
    with pytest.raises(LeaseLost):
        far.apply([Change(job, job.noted(NOW, "late"))], lease)
    assert taken[0].token > lease.token
    assert store.get([job.id]) == {job.id: job}


def test_progress_of_a_holder_that_is_stopped_is_not_recorded(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    job = downloading(store, "k")
    lease = lease_of(store, ttl_s=READ_S)
    proxy.hold("update", lambda: until(lambda: store.now() > lease.until))
    with pytest.raises(LeaseLost):
        far.record_progress({job.id: Progress(9, 10, 1)}, lease)
    assert store.get([job.id]) == {job.id: job}


def test_progress_of_ended_jobs_among_others_is_no_lost_lease(store: JobStore) -> None:
    job = downloading(store, "k")
    store.record_progress({job.id: Progress(1, 2), "no such job": Progress()}, lease_of(store))
    assert store.get([job.id])[job.id].progress == Progress(1, 2)
