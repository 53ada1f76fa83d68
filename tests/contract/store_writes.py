"""Jobs that are recorded and changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, change, downloading, some_jobs, started
from tests.contract.store_suite import Opener, StoreFixtures, lease_of
from worker.jobs.events import TIMELINE_ENTRIES_MAX, EventType
from worker.jobs.model import Result
from worker.jobs.states import State, Want
from worker.ports import Applied, Change, Inserted, JobFilter, JobStore


class WriteSuite(StoreFixtures):
    def test_a_recorded_job_is_there_for_everybody_who_opens_the_store(self, store: JobStore, opener: Opener) -> None:
        job = a_job("k")
        assert store.insert([job]) == [Inserted(True, job)]
        other = opener()
        assert other.get([job.id]) == {job.id: job}
        other.close()

    def test_a_known_id_is_answered_with_the_record_as_it_is(self, store: JobStore) -> None:
        known, fresh = a_job("k"), a_job("k2")
        store.insert([known])
        moved = change(store, known, admitted(known))
        again = replace(known, priority=9)
        assert store.insert([again, fresh]) == [Inserted(False, moved), Inserted(True, fresh)]
        assert store.get([known.id]) == {known.id: moved}

    def test_one_id_twice_in_a_batch_is_recorded_once(self, store: JobStore) -> None:
        first, second = a_job("k"), replace(a_job("k"), priority=9)
        assert store.insert([first, second]) == [Inserted(True, first), Inserted(False, first)]

    def test_nothing_to_do_is_done(self, store: JobStore) -> None:
        assert store.insert([]) == []
        assert store.apply([]) == []
        assert store.get([]) == {}
        store.mark_sent({})
        store.record_progress({}, lease_of(store))

    def test_unknown_ids_are_absent(self, store: JobStore) -> None:
        job = a_job("k")
        store.insert([job])
        assert store.get([job.id, "no such job"]) == {job.id: job}

    def test_a_thousand_jobs_are_read_at_once(self, store: JobStore) -> None:
        jobs = some_jobs(1_000)
        assert all(inserted.created for inserted in store.insert(jobs))
        assert store.get(job.id for job in jobs) == {job.id: job for job in jobs}

    def test_a_change_of_the_version_and_state_it_was_made_for_wins(self, store: JobStore) -> None:
        job = a_job("k")
        store.insert([job])
        new = admitted(job)
        assert store.apply([Change(job, new)]) == [Applied(True, new)]
        assert store.get([job.id]) == {job.id: new}

    def test_a_change_of_an_older_version_loses_and_shows_the_record(self, store: JobStore) -> None:
        job = a_job("k")
        store.insert([job])
        new = change(store, job, job.noted(NOW, "someone was first", want=Want.PAUSE))
        assert store.apply([Change(job, job.noted(NOW, want=Want.CANCEL))]) == [Applied(False, new)]
        assert store.get([job.id]) == {job.id: new}

    def test_a_change_of_another_state_loses_though_the_version_fits(self, store: JobStore) -> None:
        job = a_job("k")
        store.insert([job])
        imagined = replace(job, state=State.PAUSED)
        assert store.apply([Change(imagined, imagined.moved(State.QUEUED, NOW, "resumed"))]) == [Applied(False, job)]

    def test_a_change_of_an_unknown_job_loses_and_shows_none(self, store: JobStore) -> None:
        job = a_job("k")
        assert store.apply([Change(job, admitted(job))]) == [Applied(False, None)]
        assert store.get([job.id]) == {}

    def test_one_lost_change_leaves_the_others_of_its_batch_alone(self, store: JobStore) -> None:
        jobs = some_jobs(3)
        store.insert(jobs)
        moved = change(store, jobs[1], admitted(jobs[1]))
        answers = store.apply([Change(job, admitted(job)) for job in jobs])
        assert [answer.won for answer in answers] == [True, False, True]
        assert answers[1].job == moved

    def test_two_changes_in_a_row_of_one_job_both_win_in_one_batch(self, store: JobStore) -> None:
        job = a_job("k")
        store.insert([job])
        first = admitted(job)
        second = started(first)
        assert [a.won for a in store.apply([Change(job, first), Change(first, second)])] == [True, True]
        assert store.get([job.id]) == {job.id: second}

    def test_the_first_of_two_changes_of_one_version_wins_in_one_batch(self, store: JobStore) -> None:
        job = a_job("k")
        store.insert([job])
        first = admitted(job)
        assert store.apply([Change(job, first), Change(job, job.noted(NOW))]) == [Applied(True, first), Applied(False, first)]

    def test_a_change_that_skips_a_version_is_a_mistake_of_the_caller(self, store: JobStore) -> None:
        job = a_job("k")
        store.insert([job])
        with pytest.raises(ValueError, match="does not follow"):
            store.apply([Change(job, job.noted(NOW).noted(NOW))])
        with pytest.raises(ValueError, match="does not follow"):
            store.apply([Change(job, a_job("another").noted(NOW))])
        assert store.get([job.id]) == {job.id: job}

    def test_a_job_of_every_script_comes_back_as_it_was(self, store: JobStore) -> None:
        text = "ünï 🎬 \u202e中文\u0000'\"%_\\"
        job = replace(a_job(text, user=text), name=text, message=text)
        store.insert([job])
        assert store.get([job.id]) == {job.id: job}
        assert store.page(JobFilter(user=text), 10).jobs == (job,)

    def test_a_job_with_a_full_timeline_comes_back_as_it_was(self, store: JobStore) -> None:
        job = a_job("k")
        for i in range(TIMELINE_ENTRIES_MAX + 1):
            job = job.noted(NOW, f"line {i} " + "x" * 500, event=EventType.STARTED, data={"nested": {"list": [1, 2.5, None, True]}})
        store.insert([job])
        new = change(store, job, admitted(job))
        assert store.get([job.id]) == {job.id: new}
        assert store.unsent(1) == [new]

    def test_a_result_comes_back(self, store: JobStore) -> None:
        job = downloading(store, "a")
        job = change(store, job, job.moved(State.FINISHING, NOW, "finishing", result=Result("/f", 2**53, "a" * 64)))
        assert store.get([job.id]) == {job.id: job}
