"""The connection: closed, silent, or to a database that is gone."""

from __future__ import annotations

import threading

import pytest

from tests.contract.store_jobs import WAIT_S, a_job, a_torrent_job, admitted
from tests.contract.store_suite import Opener
from tests.mongo_proxy import MongoProxy
from worker.jobs.errors import Transient
from worker.jobs.states import State
from worker.ports import Change, JobFilter, JobStore
from worker.store.mongo.store import MongoStore


def test_a_closed_store_says_so(opener: Opener) -> None:
    store = opener()
    store.ping()
    store.close()
    for call in (store.ping, store.now, store.counts, lambda: store.insert([a_job("k")])):
        with pytest.raises(Transient, match="closed in this process"):
            call()


def test_limits_of_nothing_find_nothing(store: JobStore) -> None:
    store.insert([a_job("k"), a_torrent_job("t")])
    store.claim_run("backup", "1", "a")
    assert store.in_state(State.QUEUED, 0) == store.unsent(0) == store.undescribed(0) == store.needing_owner("aria2", 0) == []
    assert store.runs(None, 0) == []
    assert store.page(JobFilter(), 0).jobs == ()


def test_a_server_that_goes_silent_is_a_passing_fault_within_the_time_out(hasty: JobStore, proxy: MongoProxy) -> None:
    job, awake = a_job("k"), threading.Event()
    hasty.insert([job])
    proxy.hold("update", lambda: awake.wait(WAIT_S), times=2)
    with pytest.raises(Transient, match="the server did not answer in time"):
        hasty.apply([Change(job, admitted(job))])
    awake.set()


def test_a_dropped_database_is_noticed_before_anything_is_recorded(store: MongoStore) -> None:
    store._connection._client.drop_database(store._connection.name)
    with pytest.raises(Transient, match="dropped while it was open"):
        store.insert([a_job("k")])
    assert store.get([a_job("k").id]) == {}
