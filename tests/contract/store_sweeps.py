"""What a sweep finds, page after page."""

from __future__ import annotations

import pytest

from tests.contract.store_jobs import NOW, a_torrent_job, admitted, change, described, some_jobs
from tests.contract.store_suite import StoreFixtures
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import JobStore


class SweepSuite(StoreFixtures):
    def test_the_jobs_of_a_state_come_by_id_page_after_page(self, store: JobStore) -> None:
        jobs = some_jobs(25)
        store.insert(jobs)
        moved = change(store, jobs[3], admitted(jobs[3]))
        expected = sorted((job for job in jobs if job.id != moved.id), key=lambda job: job.id)
        found: list[Job] = []
        while batch := store.in_state(State.QUEUED, 10, after=found[-1].id if found else None):
            assert len(batch) <= 10
            found += batch
        assert found == expected
        assert store.in_state(State.SUBMITTING, 10) == [moved]

    def test_the_jobs_without_a_description_come_by_id_page_after_page(self, store: JobStore) -> None:
        needing = [a_torrent_job(f"torrent {i}") for i in range(25)]
        uploaded = described(a_torrent_job("uploaded"))
        store.insert([*some_jobs(3), uploaded, *needing])
        found: list[Job] = []
        while batch := store.undescribed(10, after=found[-1].id if found else None):
            assert len(batch) <= 10
            found += batch
        assert found == sorted(needing, key=lambda job: job.id)
        assert store.get([uploaded.id]) == {uploaded.id: uploaded}

    @pytest.mark.parametrize("to", [None, State.CANCELLED, State.PAUSED, State.FAILED])
    def test_a_job_that_is_described_or_not_queued_needs_no_description(self, store: JobStore, to: State | None) -> None:
        job, other = a_torrent_job("k"), a_torrent_job("other")
        store.insert([job, other])
        moved = change(store, job, job.moved(to, NOW, str(to)) if to else described(job))
        assert store.undescribed(9) == [other]
        assert store.get([job.id]) == {job.id: moved}

    def test_a_job_that_is_queued_again_needs_its_description_again(self, store: JobStore) -> None:
        job = a_torrent_job("k")
        store.insert([job])
        paused = change(store, job, job.moved(State.PAUSED, NOW, "paused"))
        again = change(store, paused, paused.moved(State.QUEUED, NOW, "resumed"))
        assert store.undescribed(9) == [again]
