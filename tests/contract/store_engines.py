"""The jobs of an engine, and what its owner has to do."""

from __future__ import annotations

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, change, downloading, some_jobs, started
from tests.contract.store_suite import StoreFixtures, end
from worker.jobs.states import State, Want
from worker.ports import JobStore


class EngineSuite(StoreFixtures):
    def test_an_engine_has_the_jobs_whose_transfer_it_holds_until_they_end(self, store: JobStore) -> None:
        here, ended, elsewhere = downloading(store, "a"), downloading(store, "b"), downloading(store, "c", engine="aria2-2")
        store.insert([a_job("d")])
        end(store, ended, State.CANCELLED)
        assert store.at_engine("aria2") == [here]
        assert store.at_engine("aria2-2") == [elsewhere]
        assert store.at_engine("none") == []

    def test_a_queued_job_that_keeps_its_transfer_is_still_at_its_engine(self, store: JobStore) -> None:
        job = downloading(store, "a")
        job = change(store, job, job.moved(State.QUEUED, NOW, "retry by cause"))
        assert store.at_engine("aria2") == [job]
        job = change(store, job, job.noted(NOW, transfer=None))
        assert store.at_engine("aria2") == []

    def test_a_done_job_that_seeds_is_at_its_engine_until_it_is_forgotten_and_takes_no_slot(self, store: JobStore) -> None:
        job = downloading(store, "a")
        live = downloading(store, "b")
        done = end(store, change(store, job, job.noted(NOW, seeding=True)), State.DONE)
        assert sorted(store.at_engine("aria2"), key=lambda job: job.state) == [done, live]
        assert store.engine_counts() == {"aria2": 1}
        assert store.needing_owner("aria2", 9) == []
        change(store, done, done.noted(NOW, "forgotten by the engine", seeding=False))
        assert store.at_engine("aria2") == [live]

    @pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
    def test_no_other_ended_job_is_at_an_engine(self, store: JobStore, state: State) -> None:
        job = downloading(store, "a")
        end(store, change(store, job, job.noted(NOW, seeding=True)), state)
        assert store.at_engine("aria2") == []

    def test_a_seeding_job_is_at_its_engine_in_a_store_that_it_is_copied_to(self, store: JobStore) -> None:
        job = started(admitted(a_job("k"))).moved(State.FINISHING, NOW, "finishing").moved(State.DONE, NOW, "done", seeding=True)
        store.insert([job])
        assert store.at_engine("aria2") == [job]

    def test_the_owner_finds_what_it_has_to_do_oldest_change_first(self, store: JobStore) -> None:
        jobs = some_jobs(4)
        store.insert(jobs)
        submitting = [change(store, job, admitted(job)) for job in reversed(jobs)]
        assert store.needing_owner("aria2", 9) == submitting
        assert store.needing_owner("aria2", 2) == submitting[:2]
        assert store.needing_owner("aria2-2", 9) == []
        first = change(store, submitting[0], started(submitting[0]))
        assert store.needing_owner("aria2", 9) == submitting[1:]
        first = change(store, first, first.noted(NOW, want=Want.CANCEL))
        assert store.needing_owner("aria2", 9) == [*submitting[1:], first]
        end(store, first, State.CANCELLED)
        assert store.needing_owner("aria2", 9) == submitting[1:]
