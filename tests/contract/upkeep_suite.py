"""What every `JobStore` promises to the works by the clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, a_job, change, downloading
from tests.contract.store_suite import HOOK, StoreFixtures, end, hooked
from worker.jobs.events import EventType
from worker.jobs.model import Job, Progress
from worker.jobs.states import TERMINAL, State
from worker.ports import JobFilter, JobStore, Run


def told(store: JobStore, job: Job) -> Job:
    """The job, once the outside knows all of it."""
    store.mark_sent({job.id: job.version})
    return store.get([job.id])[job.id]


class UpkeepSuite(StoreFixtures):
    def test_finished_jobs_come_in_the_order_they_were_recorded_in_page_after_page(self, store: JobStore) -> None:
        ended = [end(store, downloading(store, f"{n}"), state) for n, state in enumerate(sorted(TERMINAL) * 3)]
        downloading(store, "goes on")
        store.insert([a_job("waits")])
        seen, cursor = [], None
        for _ in range(9):
            page = store.finished(2, after=cursor)
            assert len(page.jobs) <= 2
            seen += page.jobs
            cursor = page.cursor
            if cursor is None:
                break
        assert [job.id for job in seen] == [job.id for job in ended]
        assert store.finished(0).jobs == ()

    @pytest.mark.parametrize("state", sorted(TERMINAL))
    def test_a_finished_job_is_removed_with_all_that_is_known_of_it(self, store: JobStore, state: State) -> None:
        job, other = downloading(store, "a"), downloading(store, "b")
        lease = store.acquire_lease("engine:aria2", "a", 600.0)
        assert lease is not None
        store.record_progress({job.id: Progress(total=9, done=9)}, lease)
        gone = told(store, end(store, job, state))
        assert store.remove([gone]) == 1
        assert store.remove([gone]) == 0
        assert list(store.get([job.id, other.id])) == [other.id]
        assert [each.id for each in store.page(JobFilter(), 9).jobs] == [other.id]
        assert store.counts() == {State.DOWNLOADING: 1}
        assert store.insert([a_job("a")])[0].created, "its key may be used again"
        assert store.get([job.id])[job.id].progress == Progress()

    def test_a_job_that_has_not_ended_is_not_removed(self, store: JobStore) -> None:
        job = told(store, downloading(store, "a"))
        store.insert([a_job("b")])
        assert store.remove([job, told(store, a_job("b"))]) == 0
        assert len(store.page(JobFilter(), 9).jobs) == 2

    def test_a_job_that_changed_since_it_was_read_is_not_removed(self, store: JobStore) -> None:
        job = end(store, downloading(store, "a"), State.FAILED)
        retried = change(store, job, job.moved(State.QUEUED, NOW, "again", attempt=2))
        told(store, retried)
        assert store.remove([job]) == 0
        assert store.get([job.id])[job.id].state is State.QUEUED

    def test_a_job_somebody_waits_to_hear_of_is_not_removed(self, store: JobStore) -> None:
        job = downloading(store, "a")
        done = change(store, job, job.moved(State.FINISHING, NOW, "finishing"))
        done = change(store, done, done.moved(State.DONE, NOW, "done", event=EventType.COMPLETED))
        assert store.remove([done]) == 0
        assert store.remove([told(store, done)]) == 1

    def test_a_job_whose_webhook_is_not_told_yet_is_not_removed(self, store: JobStore) -> None:
        job = told(store, end(store, hooked(store, "a"), State.CANCELLED))
        assert store.remove([job]) == 0
        store.mark_posted({job.id: replace(HOOK, sent=job.version)})
        assert store.remove([job]) == 1

    def test_old_lines_of_the_ledger_go_but_never_the_newest(self, store: JobStore) -> None:
        now = store.now()
        store.keep_runs([Run(name, f"{n}", "a", now - 100 + n, now, True) for n in range(6) for name in ("backup", "drill")])
        assert store.drop_runs("backup", 9, now - 97.5) == 0
        assert store.drop_runs("backup", 2, now - 97.5) == 3
        assert [run.slot for run in store.runs("backup", 9)] == ["5", "4", "3"]
        assert store.drop_runs("backup", 2, now) == 1
        assert store.drop_runs("none", 2, now) == 0
        assert len(store.runs("drill", 9)) == 6

    def test_the_newest_lines_of_several_works_come_by_name(self, store: JobStore) -> None:
        now = store.now()
        store.keep_runs([Run(name, f"{n}", "a", now, now, True, {"n": n}) for n in range(3) for name in ("backup", "drill", "warm")])
        found = store.latest_runs(("drill", "none", "backup"), 2)
        assert list(found) == ["drill", "none", "backup"]
        assert {name: [run.slot for run in runs] for name, runs in found.items()} == {"drill": ["2", "1"], "none": [], "backup": ["2", "1"]}
        assert found["drill"] == store.runs("drill", 2)
        assert store.latest_runs((), 2) == {}
