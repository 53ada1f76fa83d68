"""Which events of a job the stream was told: the unsent tail of its timeline."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.store_jobs import NOW, a_job, admitted, change, downloading, started
from tests.contract.store_suite import StoreFixtures, end
from worker.jobs.events import EventType
from worker.jobs.states import State, Want
from worker.ports import JobStore


class OutboxSuite(StoreFixtures):
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
