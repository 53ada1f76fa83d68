"""What a webhook was told, and who is to be told something now."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.store_jobs import NOW, a_job, change, downloading
from tests.contract.store_suite import HOOK, StoreFixtures, end, hooked
from worker.jobs.events import EventType
from worker.jobs.states import State
from worker.ports import JobStore


class HookSuite(StoreFixtures):
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

    def test_the_mark_of_a_webhook_survives_a_change_that_was_made_from_an_older_reading(self, store: JobStore) -> None:
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

    def test_a_webhook_a_job_is_recorded_with_is_kept_with_its_mark(self, store: JobStore) -> None:
        told, waiting = (replace(a_job(key), hook=hook) for key, hook in (("a", HOOK.past(1)), ("b", replace(HOOK, not_before=NOW + 1))))
        store.insert([told, waiting])
        assert store.get([told.id, waiting.id]) == {told.id: told, waiting.id: waiting}
        assert store.unposted("r", NOW + 1, 9) == [waiting]

    def test_an_ended_job_has_something_to_post_too(self, store: JobStore) -> None:
        job = end(store, hooked(store, "k"), State.DONE)
        assert store.unposted("r", NOW, 9) == [job]
