"""What every `JobStore` promises about space: what is kept for jobs, who waits for some, who is to be asked for its size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, change, described, some_jobs, started
from tests.contract.store_suite import StoreFixtures, end, lease_of
from worker.jobs.model import Job, Progress
from worker.jobs.needs import promised
from worker.jobs.probe import Probe
from worker.jobs.states import Reason, State, Want
from worker.ports import JobStore, Promised


def sized(key: str, size: int | None, **request: object) -> Job:
    """A queued job whose source announced so many bytes."""
    return replace(a_job(key, **request), probe=Probe(size))


def running(store: JobStore, job: Job, engine: str = "aria2") -> Job:
    """The job, recorded and downloading."""
    store.insert([job])
    submitted = change(store, job, admitted(job, engine))
    return change(store, submitted, started(submitted, engine))


def kept(store: JobStore) -> set[Promised]:
    found = store.promised()
    assert len(found) == len(set(found))
    return set(found)


class SpaceSuite(StoreFixtures):
    def test_nothing_is_kept_for_jobs_that_are_not_admitted(self, store: JobStore) -> None:
        store.insert([sized("k", 10), sized("k2", 20)])
        assert kept(store) == set()

    def test_what_was_announced_is_kept_from_admission_to_the_end(self, store: JobStore) -> None:
        job = sized("k", 10)
        store.insert([job])
        job = change(store, job, admitted(job))
        assert kept(store) == {Promised("aria2", None, 10, 10)}
        job = change(store, job, started(job))
        assert kept(store) == {Promised("aria2", None, 10, 10)}
        job = change(store, job, job.moved(State.FINISHING, NOW, "finishing"))
        assert kept(store) == {Promised("aria2", None, 10, 10)}
        end(store, replace(job), State.FAILED)
        assert kept(store) == set()

    @pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
    def test_what_has_ended_or_seeds_keeps_nothing(self, store: JobStore, state: State) -> None:
        job = running(store, replace(sized("k", 10), seed_ratio=1.0, seeding=state is State.DONE))
        end(store, job, state)
        assert kept(store) == set()

    def test_paused_jobs_and_those_that_are_tried_again_keep_theirs_and_those_short_of_space_do_not(self, store: JobStore) -> None:
        paused, again, short = (running(store, sized(key, size)) for key, size in (("a", 1), ("b", 20), ("c", 300)))
        change(store, paused, paused.moved(State.PAUSED, NOW, "paused"))
        change(store, again, again.moved(State.QUEUED, NOW, "again", reason=Reason.SCHEDULE))
        change(store, short, short.moved(State.QUEUED, NOW, "full", reason=Reason.SPACE))
        assert kept(store) == {Promised("aria2", None, 21, 21)}

    def test_they_are_told_apart_by_engine_and_by_place(self, store: JobStore) -> None:
        for key, engine, out in (("a", "aria2", None), ("b", "aria2", "/out"), ("c", "aria2", "/out"), ("d", "second", None)):
            running(store, sized(key, 5, out=out), engine)
        assert kept(store) == {
            Promised("aria2", None, 5, 5),
            Promised("aria2", "/out", 10, 10),
            Promised("second", None, 5, 5),
        }

    def test_what_lies_on_the_disk_is_not_owed_any_more_and_nobody_owes_less_than_nothing(self, store: JobStore) -> None:
        jobs = [running(store, sized(key, 100)) for key in ("a", "b", "c")]
        allocated = dict(zip((job.id for job in jobs), (30, 130, 0), strict=True))
        store.record_progress({id: Progress(done=1, allocated=size) for id, size in allocated.items()}, lease_of(store))
        assert kept(store) == {Promised("aria2", None, 70 + 0 + 100, 300)}
        assert store.get([jobs[1].id])[jobs[1].id].progress.allocated == 130

    def test_what_the_engine_knows_is_truer_than_what_was_announced(self, store: JobStore) -> None:
        larger, smaller, silent = running(store, sized("a", 100)), running(store, sized("b", 100)), running(store, sized("c", None))
        rows = {larger.id: Progress(total=1000, allocated=10), smaller.id: Progress(total=4), silent.id: Progress(total=7)}
        assert kept(store) == {Promised("aria2", None, 200, 200)}
        store.record_progress(rows, lease_of(store))
        assert kept(store) == {Promised("aria2", None, 990 + 4 + 7, 1011)}

    def test_of_unknown_size_what_is_claimed_is_kept_until_the_engine_knows_more(self, store: JobStore) -> None:
        job = running(store, replace(sized("a", None), least=30, claim=70))
        assert store.get([job.id])[job.id] == job
        assert kept(store) == {Promised("aria2", None, 70, 70)}
        store.record_progress({job.id: Progress(allocated=40)}, lease_of(store))
        assert kept(store) == {Promised("aria2", None, 30, 70)}
        store.record_progress({job.id: Progress(total=50, allocated=40)}, lease_of(store))
        assert kept(store) == {Promised("aria2", None, 10, 50)}

    def test_of_a_torrent_the_selected_files_are_kept(self, store: JobStore) -> None:
        whole, some = described(a_job("a")), described(a_job("b", select=(1,)))
        assert some.description is not None
        some = replace(some, description=replace(some.description, selected=77))
        for job in (whole, some):
            running(store, job)
        assert kept(store) == {Promised("aria2", None, 2**40 + 77, 2**40 + 77)}

    def test_sizes_beyond_32_bits_are_added_exactly(self, store: JobStore) -> None:
        for key in "abc":
            running(store, sized(key, 2**50 + 1))
        assert kept(store) == {Promised("aria2", None, 3 * (2**50 + 1), 3 * (2**50 + 1))}

    def test_a_promise_of_the_record_is_the_promise_of_the_store(self, store: JobStore) -> None:
        job = running(store, sized("a", 9))
        assert promised(job) == 9
        assert promised(change(store, job, job.moved(State.QUEUED, NOW, "full", reason=Reason.SPACE))) is None

    # ---- who waits -----------------------------------------------------------------------------------------------

    def test_those_that_wait_for_space_are_told_the_longest_first(self, store: JobStore) -> None:
        jobs = some_jobs(4)
        store.insert(jobs)
        since = dict(zip((job.id for job in jobs), (30.0, 10.0, 20.0, None), strict=True))
        jobs = [change(store, job, job.noted(NOW, reason=Reason.SPACE, short_since=since[job.id])) for job in jobs]
        assert store.short_of_space(9) == [jobs[1], jobs[2], jobs[0]]
        assert store.short_of_space(2) == [jobs[1], jobs[2]]
        change(store, jobs[1], admitted(jobs[1]))
        change(store, jobs[2], jobs[2].moved(State.PAUSED, NOW, "paused"))
        assert store.short_of_space(9) == [jobs[0]]

    # ---- who is to be asked --------------------------------------------------------------------------------------

    def test_those_to_be_asked_for_their_size_are_paged_by_id(self, store: JobStore) -> None:
        asking = [replace(a_job(f"{n}", "asking"), reason=Reason.PROBE) for n in range(25)]
        store.insert([*some_jobs(3), *asking])
        found: list[Job] = []
        while batch := store.unprobed(10, after=found[-1].id if found else None):
            assert len(batch) <= 10
            found += batch
        assert found == sorted(asking, key=lambda job: job.id)

    def test_one_that_was_asked_or_is_not_queued_is_not_asked_again(self, store: JobStore) -> None:
        jobs = [replace(job, reason=Reason.PROBE) for job in some_jobs(3)]
        store.insert(jobs)
        told = change(store, jobs[0], jobs[0].noted(NOW, reason=Reason.TURN, probe=Probe(5, '"tag"', "Tue")))
        paused = change(store, jobs[1], jobs[1].moved(State.PAUSED, NOW, "paused", reason=None, want=Want.PAUSE))
        assert store.unprobed(9) == [jobs[2]]
        assert store.get([told.id, paused.id]) == {told.id: told, paused.id: paused}
        again = change(store, paused, paused.moved(State.QUEUED, NOW, "resumed", reason=Reason.PROBE, want=Want.RUN))
        assert {job.id for job in store.unprobed(9)} == {jobs[2].id, again.id}
