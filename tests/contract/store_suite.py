"""What every `JobStore` promises to one process.

An implementation's test is a subclass of `StoreSuite` and a fixture `opener`: a picklable function of no arguments that
opens the same store again, in this process or another. `store_races` holds what it promises to many.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.store_jobs import NOW, a_job, a_torrent_job, admitted, change, described, downloading, joined, some_jobs, started, until
from worker.jobs import content
from worker.jobs.errors import LeaseLost, Rejected
from worker.jobs.events import TIMELINE_ENTRIES_MAX, EventType
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress, Result, Transfer
from worker.jobs.probe import Probe
from worker.jobs.states import Cause, Reason, State, Want
from worker.jobs.torrents import TORRENT_BYTES_MAX
from worker.ports import Applied, Change, Inserted, JobFilter, JobStore, Lease, Run

Opener = Callable[[], JobStore]
LONG_S = 600.0
SHORT_S = 0.2


class StoreFixtures:
    """The store under test; `opener` comes from the implementation."""

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[JobStore]:
        store = opener()
        yield store
        store.close()


def lease_of(store: JobStore, name: str = "engine:aria2", owner: str = "a", ttl_s: float = LONG_S) -> Lease:
    """A lease that must be free."""
    lease = store.acquire_lease(name, owner, ttl_s)
    assert lease is not None
    return lease


def end(store: JobStore, job: Job, state: State) -> Job:
    """Bring a downloading job to a terminal state, by the moves of the table."""
    if state is State.DONE:
        job = change(store, job, job.moved(State.FINISHING, NOW, "finishing"))
    return change(store, job, job.moved(state, NOW, str(state)))


def follower(store: JobStore, key: str, transfer: str) -> Job:
    """A recorded job that waits for a transfer."""
    job = a_job(key)
    store.insert([job])
    return change(store, job, job.noted(NOW, "waits", reason=Reason.DUPLICATE, follows=transfer))


def transfer_of(job: Job) -> Transfer:
    """That of a job that has one."""
    assert job.transfer is not None
    return job.transfer


HOOK = Hook("r", "host:1")


def hooked(store: JobStore, key: str, hook: Hook = HOOK) -> Job:
    """A recorded job that downloads, with a webhook: its events have the versions 1 and 3."""
    job = replace(a_job(key), hook=hook)
    store.insert([job])
    submitted = change(store, job, admitted(job))
    return change(store, submitted, started(submitted))


class InsertAndApplySuite(StoreFixtures):
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


class ProgressAndSentSuite(StoreFixtures):
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

    def test_a_mark_a_job_is_recorded_with_is_kept(self, store: JobStore) -> None:
        told, untold = (replace(started(admitted(a_job(key))), sent=sent) for key, sent in (("told", 3), ("untold", 1)))
        store.insert([told, untold])
        assert store.get([told.id, untold.id]) == {told.id: told, untold.id: untold}
        assert store.unsent(9) == [untold]

    def test_a_job_is_unsent_until_its_last_event_is_marked(self, store: JobStore) -> None:
        job = downloading(store, "k")
        assert [event.version for event in store.unsent(9)[0].unsent] == [1, 3]
        store.mark_sent({job.id: 1})
        assert [event.version for event in store.unsent(9)[0].unsent] == [3]
        store.mark_sent({job.id: 3, "no such job": 1})
        assert store.unsent(9) == []
        assert store.get([job.id]) == {job.id: replace(job, sent=3)}

    def test_a_lower_mark_changes_nothing(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.mark_sent({job.id: 3})
        store.mark_sent({job.id: 1})
        assert store.get([job.id])[job.id].sent == 3

    def test_a_mark_survives_a_change_that_was_made_from_an_older_reading(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.mark_sent({job.id: 3})
        new = change(store, job, job.noted(NOW, want=Want.PAUSE))
        assert store.get([job.id]) == {job.id: replace(new, sent=3)}
        assert store.unsent(9) == []

    def test_a_line_of_the_timeline_only_is_not_unsent_and_a_new_event_is(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.mark_sent({job.id: 3})
        noted = change(store, job, job.noted(NOW, "only a line"))
        assert store.unsent(9) == []
        paused = change(store, noted, noted.moved(State.PAUSED, NOW, "paused", event=EventType.PAUSED))
        assert store.unsent(9) == [replace(paused, sent=3)]

    def test_ended_jobs_are_unsent_too_and_those_that_changed_first_come_first(self, store: JobStore) -> None:
        first, second, third = (downloading(store, key) for key in ("a", "b", "c"))
        second = end(store, second, State.DONE)
        first = change(store, first, first.noted(NOW))
        assert store.unsent(9) == [third, second, first]
        assert store.unsent(2) == [third, second]
        store.mark_sent({third.id: 1})
        assert store.unsent(1) == [replace(third, sent=1)], "marking is no change"


class HookSuite(StoreFixtures):
    """What a webhook was told, and who is to be told something now."""

    def test_a_job_has_something_to_post_until_its_last_event_is_marked(self, store: JobStore) -> None:
        job = hooked(store, "k")
        first, second = job.unposted
        assert store.unposted("r", NOW, 9) == [job]
        store.mark_posted({job.id: HOOK.past(first.version)})
        assert store.unposted("r", NOW, 9) == [replace(job, hook=HOOK.past(first.version))]
        store.mark_posted({job.id: HOOK.past(second.version), "no such job": HOOK.past(1)})
        assert store.unposted("r", NOW, 9) == []
        assert store.get([job.id]) == {job.id: replace(job, hook=HOOK.past(second.version))}
        assert store.unsent(9) == [replace(job, hook=HOOK.past(second.version))], "the stream has a mark of its own"

    def test_a_job_without_a_webhook_is_nobodys(self, store: JobStore) -> None:
        job = downloading(store, "k")
        store.mark_posted({})
        store.mark_posted({job.id: HOOK.past(1)})
        assert store.get([job.id]) == {job.id: job}
        assert store.unposted("r", NOW, 9) == store.unposted("", NOW, 9) == []

    def test_each_receiver_has_its_own_jobs(self, store: JobStore) -> None:
        one, first = hooked(store, "a"), hooked(store, "b", replace(HOOK, receiver=""))
        assert store.unposted("r", NOW, 9) == [one]
        assert store.unposted("", NOW, 9) == [first]
        assert store.unposted("another", NOW, 9) == []

    def test_a_job_that_is_put_off_comes_at_its_time_after_those_that_never_were(self, store: JobStore) -> None:
        later, sooner, second, first = (hooked(store, key) for key in ("a", "b", "c", "d"))
        put_off = {job.id: replace(HOOK, failures=1, failing_since=NOW, not_before=NOW + n) for n, job in ((5, later), (1, sooner))}
        store.mark_posted(put_off)
        later, sooner = (replace(job, hook=put_off[job.id]) for job in (later, sooner))
        assert store.unposted("r", NOW, 9) == [second, first]
        assert store.unposted("r", NOW + 1, 9) == [second, first, sooner]
        assert store.unposted("r", NOW + 5, 9) == [second, first, sooner, later]
        assert store.unposted("r", NOW + 5, 3) == [second, first, sooner]

    def test_a_mark_only_ever_moves_on(self, store: JobStore) -> None:
        job = hooked(store, "k")
        failed = replace(HOOK, failures=2, failing_since=NOW, not_before=NOW + 7.123456)
        for mark, kept in (
            (failed, failed),
            (replace(HOOK, failures=1, not_before=NOW + 1), failed),
            (replace(HOOK, failures=2, not_before=NOW + 9), failed),
            (HOOK.past(1), HOOK.past(1)),
            (failed, HOOK.past(1)),
            (HOOK, HOOK.past(1)),
            (HOOK.past(3), HOOK.past(3)),
            (replace(HOOK.past(1), failures=9), HOOK.past(3)),
        ):
            store.mark_posted({job.id: mark})
            assert store.get([job.id]) == {job.id: replace(job, hook=kept)}

    def test_a_mark_survives_a_change_that_was_made_from_an_older_reading(self, store: JobStore) -> None:
        job = hooked(store, "k")
        store.mark_posted({job.id: HOOK.past(3)})
        new = change(store, job, job.noted(NOW, "a line of the timeline only"))
        assert store.get([job.id]) == {job.id: replace(new, hook=HOOK.past(3))}
        assert store.unposted("r", NOW, 9) == []
        paused = change(store, new, new.moved(State.PAUSED, NOW, "paused", event=EventType.PAUSED))
        assert store.unposted("r", NOW, 9) == [replace(paused, hook=HOOK.past(3))]

    def test_a_new_event_does_not_hurry_a_job_that_is_put_off(self, store: JobStore) -> None:
        job = hooked(store, "k")
        mark = replace(HOOK.past(1), failures=1, failing_since=NOW, not_before=NOW + 5)
        store.mark_posted({job.id: mark})
        change(store, job, job.moved(State.PAUSED, NOW, "paused", event=EventType.PAUSED))
        assert store.unposted("r", NOW, 9) == []
        assert [len(found.unposted) for found in store.unposted("r", NOW + 5, 9)] == [2]

    def test_a_mark_a_job_is_recorded_with_is_kept(self, store: JobStore) -> None:
        told, waiting = (replace(a_job(key), hook=hook) for key, hook in (("a", HOOK.past(1)), ("b", replace(HOOK, not_before=NOW + 1))))
        store.insert([told, waiting])
        assert store.get([told.id, waiting.id]) == {told.id: told, waiting.id: waiting}
        assert store.unposted("r", NOW + 1, 9) == [waiting]

    def test_an_ended_job_has_something_to_post_too(self, store: JobStore) -> None:
        job = end(store, hooked(store, "k"), State.DONE)
        assert store.unposted("r", NOW, 9) == [job]


class QuerySuite(StoreFixtures):
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

    def test_a_transfer_is_held_while_anything_may_go_on_from_its_files(self, store: JobStore) -> None:
        one, other = downloading(store, "one"), downloading(store, "other")
        borrowed = change(store, other, other.noted(NOW, transfer=replace(transfer_of(other), id=one.id, turn=1, size=5)))
        by_id = sorted((one, borrowed), key=lambda job: job.id)
        assert sorted(store.holding([one.id, "nobody's"]), key=lambda job: job.id) == by_id
        assert store.holding([other.id]) == store.holding([]) == []
        failed = change(store, one, one.moved(State.FAILED, NOW, "failed", cause=Cause.NOT_FOUND))
        assert failed in store.holding([one.id]), "a retry goes on from its files"
        end(store, borrowed, State.DONE)
        assert store.holding([one.id]) == [failed]
        seeds = downloading(store, "seeds")
        finishing = change(store, seeds, seeds.moved(State.FINISHING, NOW, "finishing"))
        done = change(store, finishing, finishing.moved(State.DONE, NOW, "done", seeding=True))
        assert store.holding([seeds.id]) == [done]

    def test_who_waits_for_a_transfer_is_found_by_it_and_counted(self, store: JobStore) -> None:
        first, second, other = waiting = [follower(store, key, transfer) for key, transfer in (("1", "t"), ("2", "t"), ("3", "u"))]
        assert sorted(store.following(["t"], 9), key=lambda job: job.key or "") == [first, second]
        assert sorted(store.following(["t", "u", "v"], 9), key=lambda job: job.key or "") == waiting
        assert len(store.following(["t", "u"], 2)) == 2
        assert store.following([], 9) == []
        assert store.followed() == {"t": 2, "u": 1}
        change(store, first, first.moved(State.PAUSED, NOW, "paused", reason=None))
        change(store, second, admitted(second))
        assert store.following(["t"], 9) == []
        assert store.followed() == {"u": 1}
        change(store, other, other.noted(NOW, follows=None))
        assert store.followed() == {}

    def test_a_content_is_found_by_each_of_its_names_while_a_live_job_holds_its_transfer(self, store: JobStore) -> None:
        probe = Probe(5, '"tag"')
        job = replace(a_job("k", sha256="a" * 64), probe=probe)
        alone = a_job("alone", sha256="b" * 64)
        store.insert([job, alone])
        first, second = names = content.keys(job)
        assert store.sharing(names) == []
        moved = change(store, job, admitted(job))
        assert store.sharing([first]) == store.sharing([second]) == store.sharing([*names, "another"]) == [moved]
        assert store.sharing(content.keys(alone)) == store.sharing([]) == []
        running = change(store, moved, started(moved))
        assert store.sharing(names) == [running]
        end(store, running, State.DONE)
        assert store.sharing(names) == []

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

    def test_a_result_comes_back(self, store: JobStore) -> None:
        job = downloading(store, "a")
        job = change(store, job, job.moved(State.FINISHING, NOW, "finishing", result=Result("/f", 2**53, "a" * 64)))
        assert store.get([job.id]) == {job.id: job}


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


class LeaseSuite(StoreFixtures):
    def test_time_goes_on_and_is_one_for_all_who_open_the_store(self, store: JobStore, opener: Opener) -> None:
        other = opener()
        times = [store.now(), other.now(), store.now(), other.now()]
        other.close()
        assert times == sorted(times)
        assert times[-1] - times[0] < LONG_S

    def test_a_held_lease_is_not_given_to_another(self, store: JobStore) -> None:
        lease = lease_of(store, owner="a")
        assert (lease.name, lease.owner) == ("engine:aria2", "a")
        assert LONG_S - 60 < lease.until - store.now() <= LONG_S
        assert store.acquire_lease(lease.name, "b", LONG_S) is None
        assert lease_of(store, "engine:other", "b").owner == "b"

    def test_the_owner_is_given_its_lease_again_under_the_same_token(self, store: JobStore) -> None:
        lease = lease_of(store, ttl_s=LONG_S)
        again = lease_of(store, ttl_s=LONG_S + 100)
        assert again.token == lease.token
        assert again.until > lease.until
        store.record_progress({}, lease)

    def test_a_released_lease_is_free_at_once_and_its_token_never_comes_back(self, store: JobStore) -> None:
        tokens = []
        for owner in "abab":
            lease = lease_of(store, owner=owner)
            tokens.append(lease.token)
            store.release_lease(lease)
            store.release_lease(lease)
        assert tokens == sorted(set(tokens))

    def test_tokens_grow_on_when_the_store_is_opened_again(self, store: JobStore, opener: Opener) -> None:
        lease = lease_of(store)
        store.release_lease(lease)
        store.close()
        again = opener()
        assert lease_of(again).token > lease.token
        again.close()

    def test_a_lease_that_ran_out_goes_to_the_next_who_asks(self, store: JobStore) -> None:
        lease = lease_of(store, owner="a", ttl_s=SHORT_S)
        taken: list[Lease] = []
        until(lambda: bool(taken.append(got) if (got := store.acquire_lease(lease.name, "b", LONG_S)) else taken) or bool(taken))
        assert store.now() >= lease.until
        assert taken[0].token > lease.token

    def test_the_owner_of_a_lease_that_ran_out_gets_a_new_token(self, store: JobStore) -> None:
        lease = lease_of(store, ttl_s=SHORT_S)
        until(lambda: store.now() > lease.until)
        assert lease_of(store).token > lease.token

    def test_a_renewed_lease_ends_later_under_the_same_token(self, store: JobStore) -> None:
        lease = lease_of(store, ttl_s=SHORT_S)
        renewed = store.renew_lease(lease, LONG_S)
        assert renewed == replace(lease, until=renewed.until)
        assert renewed.until > lease.until
        until(lambda: store.now() > lease.until)
        assert store.acquire_lease(lease.name, "b", LONG_S) is None
        store.record_progress({}, lease)

    def test_a_lease_somebody_else_took_cannot_be_renewed_or_released(self, store: JobStore) -> None:
        lease = lease_of(store, owner="a")
        store.release_lease(lease)
        taken = lease_of(store, owner="b")
        with pytest.raises(LeaseLost):
            store.renew_lease(lease, LONG_S)
        store.release_lease(lease)
        assert store.acquire_lease(lease.name, "c", LONG_S) is None
        assert store.renew_lease(taken, LONG_S).token == taken.token

    def test_a_released_lease_cannot_be_renewed(self, store: JobStore) -> None:
        lease = lease_of(store)
        store.release_lease(lease)
        with pytest.raises(LeaseLost):
            store.renew_lease(lease, LONG_S)

    def test_a_lease_nobody_ever_had_is_not_ours(self, store: JobStore) -> None:
        imagined = Lease("engine:none", "a", 1, store.now() + LONG_S)
        store.release_lease(imagined)
        with pytest.raises(LeaseLost):
            store.renew_lease(imagined, LONG_S)
        with pytest.raises(LeaseLost):
            store.record_progress({}, imagined)

    def test_writes_pass_under_a_current_lease(self, store: JobStore) -> None:
        jobs = some_jobs(2)
        store.insert(jobs)
        assert all(answer.won for answer in store.apply([Change(job, admitted(job)) for job in jobs], lease_of(store)))

    @pytest.mark.parametrize("loss", ["released", "taken", "taken by its former owner", "run out"])
    def test_after_a_takeover_the_old_token_writes_nothing(self, store: JobStore, loss: str) -> None:
        job = downloading(store, "k")
        lease = lease_of(store, owner="a", ttl_s=SHORT_S if loss == "run out" else LONG_S)
        if loss == "run out":
            until(lambda: store.now() > lease.until)
        else:
            store.release_lease(lease)
        if loss.startswith("taken"):
            lease_of(store, owner="a" if "former" in loss else "b")
        with pytest.raises(LeaseLost):
            store.apply([Change(job, job.noted(NOW))], lease)
        with pytest.raises(LeaseLost):
            store.record_progress({job.id: Progress(1, 2, 3)}, lease)
        assert store.get([job.id]) == {job.id: job}


class TorrentSuite(StoreFixtures):
    def test_a_torrent_is_kept_under_the_hash_of_its_bytes_for_everybody(self, store: JobStore, opener: Opener) -> None:
        name = store.keep_torrent(b"d4:infod4:name1:aee")
        assert name == hashlib.sha256(b"d4:infod4:name1:aee").hexdigest()
        other = opener()
        assert other.torrents([name]) == {name: b"d4:infod4:name1:aee"}
        other.close()

    def test_a_torrent_given_again_is_kept_once(self, store: JobStore) -> None:
        first, other = store.keep_torrent(b"a"), store.keep_torrent(b"b")
        assert store.keep_torrent(b"a") == first
        assert store.torrents([first, other, first]) == {first: b"a", other: b"b"}

    def test_names_of_no_torrent_are_absent(self, store: JobStore) -> None:
        name = store.keep_torrent(b"a")
        assert store.torrents([name, "0" * 64, ""]) == {name: b"a"}
        assert store.torrents([]) == {}

    @pytest.mark.parametrize("size", [0, 2 * 1024 * 1024, TORRENT_BYTES_MAX])
    def test_a_torrent_of_any_bytes_comes_back_as_it_was(self, store: JobStore, size: int) -> None:
        document = random.Random(size).randbytes(size)
        name = store.keep_torrent(document)
        assert store.torrents([name]) == {name: document}


class RunSuite(StoreFixtures):
    def test_a_slot_is_given_once_ever(self, store: JobStore, opener: Opener) -> None:
        assert store.claim_run("backup", "2024-01-01", "a")
        assert not store.claim_run("backup", "2024-01-01", "a")
        store.end_run("backup", "2024-01-01", ok=True, report={})
        other = opener()
        assert not other.claim_run("backup", "2024-01-01", "b")
        assert other.claim_run("backup", "2024-01-02", "b")
        assert other.claim_run("drill", "2024-01-01", "b")
        other.close()

    def test_the_ledger_tells_how_each_run_went_newest_first(self, store: JobStore) -> None:
        report: dict[str, Any] = {"files": 3, "names": ["ü"], "nested": {"ok": None}}
        for name, slot in (("backup", "1"), ("drill", "1"), ("backup", "2"), ("backup", "3")):
            store.claim_run(name, slot, "a")
        store.end_run("backup", "1", ok=True, report=report)
        store.end_run("backup", "2", ok=False, report={"error": "disk"})
        store.end_run("backup", "never claimed", ok=True, report={})
        runs = store.runs("backup", 9)
        assert [(run.slot, run.owner, run.ok, run.report) for run in runs] == [
            ("3", "a", None, {}),
            ("2", "a", False, {"error": "disk"}),
            ("1", "a", True, json.loads(json.dumps(report))),
        ]
        assert runs[0].ended_at is None
        assert runs[1].ended_at is not None
        assert runs[1].ended_at >= runs[1].started_at
        assert [run.name for run in store.runs(None, 3)] == ["backup", "backup", "drill"]
        assert store.runs("none", 9) == []

    def test_runs_of_another_store_are_kept_as_they_are_and_in_their_order(self, store: JobStore) -> None:
        kept = [
            Run("drill", "2", "far", NOW, NOW + 5.25, True, {"names": ["ü"], "nested": {"ok": None}}),
            Run("backup", "2", "far", NOW - 7.5, NOW, False, {"error": "disk"}),
            Run("backup", "1", "far", NOW + 99),
        ]
        store.keep_runs(kept)
        assert store.runs(None, 9) == kept[::-1]
        assert store.runs("backup", 9) == [kept[2], kept[1]]
        assert not store.claim_run("backup", "1", "here")

    def test_a_slot_that_is_known_stays_as_it_is(self, store: JobStore) -> None:
        store.claim_run("backup", "1", "here")
        before = store.runs("backup", 1)
        fresh = Run("backup", "2", "far", NOW, NOW + 1, True)
        for _ in range(2):
            store.keep_runs([Run("backup", "1", "far", NOW, NOW + 1, False, {"error": "disk"}), fresh, Run("backup", "2", "twice", NOW)])
        store.keep_runs([])
        assert store.runs(None, 9) == [fresh, *before]
        assert store.claim_run("backup", "3", "here")
        assert [run.slot for run in store.runs(None, 9)] == ["3", "2", "1"]

    def test_the_first_word_on_a_run_counts(self, store: JobStore) -> None:
        store.claim_run("backup", "1", "a")
        store.end_run("backup", "1", ok=False, report={"died": True})
        [before] = store.runs("backup", 9)
        store.end_run("backup", "1", ok=True, report={"late": True})
        assert store.runs("backup", 9) == [before]

    def test_a_store_that_was_just_made_is_as_declared(self, store: JobStore) -> None:
        assert store.drift() == ()

    def test_the_ledger_forgets_the_oldest_lines_of_one_name(self, store: JobStore) -> None:
        store.keep_runs([Run(name, str(slot), "far", NOW + slot, NOW + slot, True) for slot in range(9) for name in ("drill", "backup")])
        for _ in range(2):
            store.drop_runs("backup", 3)
            assert [run.slot for run in store.runs("backup", 99)] == ["8", "7", "6"]
        assert len(store.runs("drill", 99)) == 9
        store.drop_runs("backup", 99)
        store.drop_runs("none", 0)
        assert len(store.runs(None, 99)) == 12
        assert store.claim_run("backup", "0", "here")
        store.drop_runs("backup", 0)
        assert [run.name for run in store.runs(None, 99)] == ["drill"] * 9

    def test_a_store_names_its_server_and_version(self, store: JobStore) -> None:
        assert re.fullmatch(r"(SQLite|MongoDB) \d+\.\d+.*", store.version())

    def test_a_store_that_is_there_answers(self, store: JobStore) -> None:
        store.ping()

    def test_closing_twice_is_closing(self, store: JobStore) -> None:
        store.close()
        store.close()


class StoreSuite(InsertAndApplySuite, ProgressAndSentSuite, HookSuite, QuerySuite, PageSuite, TorrentSuite, LeaseSuite, RunSuite):
    """All of it."""
