"""Jobs as a list shows them, page after page."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, change, joined, some_jobs
from tests.contract.store_suite import StoreFixtures
from worker.jobs.errors import Rejected
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import JobFilter, JobStore


class PageSuite(StoreFixtures):
    @staticmethod
    def recorded(store: JobStore, n: int, user: str = "u") -> list[Job]:
        jobs = [replace(job, created_at=NOW + i) for i, job in enumerate(some_jobs(n, user))]
        for job in jobs:
            store.insert([job])
        return jobs

    @staticmethod
    def pages(store: JobStore, where: JobFilter, limit: int) -> list[list[Job]]:
        page = store.page(where, limit)
        pages = [list(page.jobs)]
        while page.cursor:
            page = store.page(where, limit, page.cursor)
            pages.append(list(page.jobs))
        return pages

    def test_pages_show_every_job_once_newest_first(self, store: JobStore) -> None:
        jobs = self.recorded(store, 25)
        pages = self.pages(store, JobFilter(), 10)
        assert [len(page) for page in pages] == [10, 10, 5]
        assert joined(pages) == jobs[::-1]

    def test_jobs_of_one_batch_are_as_old_as_their_place_in_it(self, store: JobStore) -> None:
        jobs = some_jobs(25)
        store.insert(jobs[:3])
        store.insert(jobs)
        assert store.page(JobFilter(), 30).jobs == tuple(jobs[::-1])

    def test_the_last_full_page_has_no_cursor(self, store: JobStore) -> None:
        self.recorded(store, 10)
        assert store.page(JobFilter(), 10).cursor is None
        assert store.page(JobFilter(), 9).cursor is not None

    def test_an_empty_store_has_one_empty_page(self, store: JobStore) -> None:
        assert self.pages(store, JobFilter(), 10) == [[]]
        assert self.pages(store, JobFilter(user="u", states=(State.DONE,)), 10) == [[]]

    def test_pages_show_the_jobs_of_a_user(self, store: JobStore) -> None:
        mine = self.recorded(store, 7, "me")
        self.recorded(store, 7, "you")
        change(store, mine[2], moved := admitted(mine[2]))
        mine[2] = moved
        assert joined(self.pages(store, JobFilter(user="me"), 3)) == mine[::-1]

    def test_pages_show_the_jobs_in_any_of_the_states(self, store: JobStore) -> None:
        mine, yours = self.recorded(store, 6, "me"), self.recorded(store, 6, "you")
        for jobs in (mine, yours):
            for i in (1, 4):
                jobs[i] = change(store, jobs[i], admitted(jobs[i]))
            jobs[5] = change(store, jobs[5], jobs[5].moved(State.CANCELLED, NOW, "cancel"))
        gone = (State.SUBMITTING, State.CANCELLED, State.CANCELLED)
        assert joined(self.pages(store, JobFilter(states=gone), 2)) == [yours[5], yours[4], yours[1], mine[5], mine[4], mine[1]]
        assert joined(self.pages(store, JobFilter(user="me", states=gone), 2)) == [mine[5], mine[4], mine[1]]
        assert joined(self.pages(store, JobFilter(user="me", states=(State.QUEUED,)), 2)) == [mine[3], mine[2], mine[0]]
        assert self.pages(store, JobFilter(states=()), 2) == [[]]

    def test_a_cursor_stays_valid_while_jobs_are_added_and_changed(self, store: JobStore) -> None:
        jobs = self.recorded(store, 12)
        first = store.page(JobFilter(), 5)
        store.insert([replace(a_job("later"), created_at=NOW + 100)])
        changed = [change(store, job, admitted(job)) for job in (jobs[7], jobs[6], jobs[0])]
        second = store.page(JobFilter(), 5, first.cursor)
        third = store.page(JobFilter(), 5, second.cursor)
        assert [job.id for job in (*first.jobs, *second.jobs, *third.jobs)] == [job.id for job in reversed(jobs)]
        assert changed[1] in second.jobs
        assert third.jobs[-1] == changed[-1]

    @pytest.mark.parametrize(
        "cursor",
        ["", "x", "!!!", "ü", "\ud800", "1", "0", base64.b64encode(b"seq:-1").decode(), base64.b64encode(b"seq: 1").decode(), "A" * 10_000],
    )
    def test_a_cursor_that_is_not_ours_is_refused(self, store: JobStore, cursor: str) -> None:
        self.recorded(store, 3)
        with pytest.raises(Rejected) as caught:
            store.page(JobFilter(), 1, cursor)
        assert caught.value.field == "cursor"

    def test_a_cursor_fits_into_a_url_as_it_is(self, store: JobStore) -> None:
        self.recorded(store, 2)
        cursor = store.page(JobFilter(), 1).cursor
        assert cursor is not None
        assert cursor.replace("-", "").replace("_", "").isalnum()
