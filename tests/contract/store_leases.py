"""Leases, their fencing tokens, and the clock they go by."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, admitted, downloading, some_jobs, until
from tests.contract.store_suite import LONG_S, SHORT_S, Opener, StoreFixtures, lease_of
from worker.jobs.errors import LeaseLost
from worker.jobs.model import Progress
from worker.ports import Change, JobStore, Lease


def renewed_in_time(store: JobStore) -> tuple[Lease, Lease]:
    """A short lease and what became of it when it was renewed; a slow machine gets a longer one."""
    for ttl_s in (SHORT_S, 5 * SHORT_S, 25 * SHORT_S):
        lease = lease_of(store, ttl_s=ttl_s)
        with suppress(LeaseLost):
            return lease, store.renew_lease(lease, LONG_S)
    raise AssertionError(f"it takes longer than {ttl_s:g} s to renew a lease")


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
        lease, renewed = renewed_in_time(store)
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
