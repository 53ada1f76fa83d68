"""Progress, which is kept without a change of the job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, change, downloading
from tests.contract.store_suite import StoreFixtures, end, lease_of
from worker.jobs.model import Progress
from worker.jobs.states import State, Want
from worker.ports import Applied, Change, Inserted, JobFilter, JobStore


class ProgressSuite(StoreFixtures):
    def test_progress_is_kept_and_no_version_changes(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.record_progress({job.id: Progress(5, 10, 2)}, lease_of(store))
        store.record_progress({job.id: Progress(6, 10, 2)}, lease_of(store))
        assert store.get([job.id])[job.id] == replace(job, progress=Progress(6, 10, 2))

    def test_a_change_does_not_put_old_progress_back(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.record_progress({job.id: Progress(5, 10, 2)}, lease_of(store))
        change(store, job, job.noted(NOW, want=Want.PAUSE))
        assert store.get([job.id])[job.id].progress == Progress(5, 10, 2)

    def test_progress_does_not_make_a_change_lose(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.record_progress({job.id: Progress(5, 10, 2)}, lease_of(store))
        assert store.apply([Change(job, job.noted(NOW))])[0].won

    @pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
    def test_the_progress_of_an_ended_job_stays_as_it_was(self, store: JobStore, state: State) -> None:
        job = downloading(store, "k")
        lease = lease_of(store)
        store.record_progress({job.id: Progress(5, 10, 2)}, lease)
        end(store, job, state)
        store.record_progress({job.id: Progress(9, 10, 2), "no such job": Progress()}, lease)
        assert store.get([job.id])[job.id].progress == Progress(5, 10, 2)

    def test_the_owner_of_an_engine_says_nothing_of_jobs_that_went_to_another(self, store: JobStore) -> None:
        job, gone = downloading(store, "stays"), downloading(store, "goes")
        lease = lease_of(store)
        store.record_progress({gone.id: Progress(9, 10, 2)}, lease)
        back = change(store, gone, gone.moved(State.QUEUED, NOW, "it goes on elsewhere", attempt=2))
        change(store, back, admitted(back, "other"))
        store.record_progress({gone.id: Progress(0, 10)}, lease_of(store, "admit"))
        store.record_progress({job.id: Progress(4, 10, 2), gone.id: Progress(9, 10, 2)}, lease)
        assert {found.id: found.progress.done for found in store.get([job.id, gone.id]).values()} == {job.id: 4, gone.id: 0}
        store.record_progress({gone.id: Progress(1, 10)}, lease_of(store, "engine:other"))
        assert store.get([gone.id])[gone.id].progress.done == 1

    def test_every_reading_query_shows_progress(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.record_progress({job.id: Progress(5, 10, 2)}, lease_of(store))
        job = replace(change(store, job, job.noted(NOW, want=Want.PAUSE)), progress=Progress(5, 10, 2))
        found = [store.at_engine("aria2"), store.needing_owner("aria2", 9), store.in_state(State.DOWNLOADING, 9), store.unsent(9)]
        assert found == [[job]] * 4
        assert store.page(JobFilter(), 9).jobs == (job,)
        assert store.apply([Change(a_job("k"), admitted(a_job("k")))]) == [Applied(False, job)]
        assert store.insert([a_job("k")]) == [Inserted(False, job)]

    def test_progress_a_job_is_recorded_with_is_kept(self, store: JobStore) -> None:
        job = replace(a_job("k"), progress=Progress(1, 2, 3, 4, 5))
        store.insert([job])
        assert store.get([job.id]) == {job.id: job}
