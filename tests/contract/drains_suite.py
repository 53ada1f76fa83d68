"""What every `JobStore` promises about engines that are drained, and about what each engine holds."""

from __future__ import annotations

from tests.contract.store_jobs import NOW, a_job, admitted, change, downloading
from tests.contract.store_suite import Opener, StoreFixtures
from worker.jobs.states import State
from worker.ports import Drain, JobStore


class DrainsSuite(StoreFixtures):
    def test_an_engine_that_is_drained_is_so_for_everybody_and_after_a_restart(self, store: JobStore, opener: Opener) -> None:
        assert store.drains() == {}
        store.drain("aria2", Drain(since=NOW))
        store.drain("ü.$/x", Drain(move=True, since=NOW + 0.5))
        other = opener()
        assert other.drains() == {"aria2": Drain(since=NOW), "ü.$/x": Drain(move=True, since=NOW + 0.5)}
        other.close()

    def test_the_last_word_on_an_engine_counts_and_each_may_be_said_twice(self, store: JobStore) -> None:
        for drain in (Drain(since=NOW), Drain(move=True, since=NOW), Drain(move=True, since=NOW)):
            store.drain("aria2", drain)
        store.drain("other", Drain())
        assert store.drains() == {"aria2": Drain(move=True, since=NOW), "other": Drain()}
        for _ in range(2):
            store.undrain("aria2")
        store.undrain("never drained")
        assert store.drains() == {"other": Drain()}

    def test_what_an_engine_holds_is_counted_by_state(self, store: JobStore) -> None:
        assert store.engine_states() == {}
        downloading(store, "a")
        downloading(store, "b")
        paused = downloading(store, "c")
        downloading(store, "d", engine="aria2-2")
        finishing = downloading(store, "e", engine="aria2-2")
        submitting, queued = a_job("f"), a_job("g")
        store.insert([submitting, queued])
        change(store, submitting, admitted(submitting))
        change(store, paused, paused.moved(State.PAUSED, NOW, "paused"))
        finishing = change(store, finishing, finishing.moved(State.FINISHING, NOW, "all here"))
        expected = {
            "aria2": {State.DOWNLOADING: 2, State.PAUSED: 1, State.SUBMITTING: 1},
            "aria2-2": {State.DOWNLOADING: 1, State.FINISHING: 1},
        }
        assert store.engine_states() == expected
        change(store, finishing, finishing.moved(State.DONE, NOW, "done", seeding=True))
        assert store.engine_states()["aria2-2"] == {State.DOWNLOADING: 1, State.DONE: 1}

    def test_what_has_ended_is_at_no_engine(self, store: JobStore) -> None:
        job = downloading(store, "a")
        change(store, job, job.moved(State.FAILED, NOW, "failed"))
        assert store.engine_states() == {}
