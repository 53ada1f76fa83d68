"""How many jobs there are, and who takes slots."""

from __future__ import annotations

from tests.contract.store_jobs import NOW, a_job, admitted, change, downloading, some_jobs
from tests.contract.store_suite import StoreFixtures, end
from worker.jobs.states import Cause, State
from worker.ports import JobStore


class CountSuite(StoreFixtures):
    def test_counts_follow_every_move(self, store: JobStore) -> None:
        assert store.counts() == {}
        store.insert(some_jobs(3))
        end(store, downloading(store, "a"), State.DONE)
        job = downloading(store, "b")
        assert store.counts() == {State.QUEUED: 3, State.DOWNLOADING: 1, State.DONE: 1}
        assert store.counts((State.QUEUED, State.DONE, State.FAILED)) == {State.QUEUED: 3, State.DONE: 1}
        assert store.counts(()) == {}
        change(store, job, job.moved(State.FAILED, NOW, "failed", cause=Cause.NOT_FOUND))
        assert store.counts() == {State.QUEUED: 3, State.FAILED: 1, State.DONE: 1}

    def test_slots_are_taken_by_submitting_and_downloading_jobs_only(self, store: JobStore) -> None:
        assert store.engine_counts() == {}
        downloading(store, "a")
        paused = downloading(store, "b")
        downloading(store, "c", engine="aria2-2")
        job = a_job("d")
        store.insert([job])
        change(store, job, admitted(job))
        assert store.engine_counts() == {"aria2": 3, "aria2-2": 1}
        change(store, paused, paused.moved(State.PAUSED, NOW, "paused"))
        assert store.engine_counts() == {"aria2": 2, "aria2-2": 1}

    def test_slots_are_counted_by_user_and_tier(self, store: JobStore) -> None:
        assert store.slot_counts() == {}
        for key, user, tier in (("a", "ann", "free"), ("b", "ann", "vip"), ("c", "bob: x", "free"), ("d", "bob: x", "free")):
            job = a_job(key, user, tier=tier)
            store.insert([job])
            change(store, job, admitted(job))
        store.insert([a_job("waits", "ann")])
        paused = downloading(store, "e", user="ann")
        assert store.slot_counts() == {("ann", "free"): 2, ("ann", "vip"): 1, ("bob: x", "free"): 2}
        change(store, paused, paused.moved(State.PAUSED, NOW, "paused"))
        assert store.slot_counts() == {("ann", "free"): 1, ("ann", "vip"): 1, ("bob: x", "free"): 2}

    def test_slots_are_counted_by_where_their_bytes_come_from(self, store: JobStore) -> None:
        assert store.slot_uris() == {}
        same = "https://host/a?x=ü"
        for user, key in (("ann", "a?x=ü"), ("bob", "a?x=ü"), ("ann", "b")):
            job = a_job(key, user)
            store.insert([job])
            change(store, job, admitted(job))
        store.insert([a_job("waits")])
        paused = downloading(store, "paused")
        change(store, paused, paused.moved(State.PAUSED, NOW, "paused"))
        assert store.slot_uris() == {same: 2, "https://host/b": 1}
