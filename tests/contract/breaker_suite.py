"""What every `JobStore` promises about the breakers of engines."""

from __future__ import annotations

import pytest

from tests.contract.store_suite import LONG_S, Opener, StoreFixtures, lease_of
from worker.breaker import Breaker, Circuit
from worker.jobs.errors import LeaseLost
from worker.ports import JobStore

OPEN = Breaker().opened(5.0, "ü: $no {answer}", silent_since=1.5)


class BreakerSuite(StoreFixtures):
    def test_a_breaker_that_was_kept_is_there_for_everybody_and_those_of_other_engines_stay(self, store: JobStore, opener: Opener) -> None:
        assert store.breakers() == {}
        first, second = lease_of(store), lease_of(store, "engine:b")
        store.keep_breaker("aria2", OPEN, first)
        store.keep_breaker("b", Breaker(), second)
        store.keep_breaker("aria2", OPEN.opened(6.0, "again"), first)
        other = opener()
        assert other.breakers() == {"aria2": OPEN.opened(6.0, "again"), "b": Breaker()}
        other.close()

    def test_who_lost_the_lease_keeps_no_breaker(self, store: JobStore) -> None:
        late = lease_of(store)
        store.keep_breaker("aria2", OPEN, late)
        store.release_lease(late)
        current = lease_of(store, owner="b")
        with pytest.raises(LeaseLost):
            store.keep_breaker("aria2", Breaker(), late)
        assert store.breakers()["aria2"].state is Circuit.OPEN
        store.keep_breaker("aria2", Breaker(), current)
        assert store.breakers() == {"aria2": Breaker()}

    def test_a_lease_that_has_run_out_keeps_no_breaker(self, store: JobStore) -> None:
        over = lease_of(store, ttl_s=-1.0)
        with pytest.raises(LeaseLost):
            store.keep_breaker("aria2", OPEN, over)
        assert store.breakers().get("aria2", Breaker()) == Breaker()
        assert store.acquire_lease("engine:aria2", "b", LONG_S) is not None
