"""A holder renews in time, or stops by itself before somebody else can have the lease."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from worker.jobs.errors import LeaseLost, Transient
from worker.limits import LEASE_GIVE_UP_S, LEASE_RENEW_S, LEASE_S, RPC_TIMEOUT_S
from worker.ports import Lease
from worker.supervision.lease import Fenced, Held


class Store:
    """Answers as told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[str] = []

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        return self._answer("acquire", name, owner)

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        return self._answer("renew", lease.name, lease.owner)

    def release_lease(self, lease: Lease) -> None:
        self._answer("release", lease.name, lease.owner)

    def _answer(self, what: str, name: str, owner: str) -> Lease:
        self.asked.append(what)
        if self.error:
            raise self.error
        return Lease(name, owner, 1, 0.0)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def held(store: Store, clock: Time) -> Held:
    return Held(store, "engine:a", "me", clock)  # type: ignore[arg-type]


def test_it_is_acquired_once_and_renewed_when_due(held: Held, store: Store, clock: Time) -> None:
    held.keep()
    clock.now += LEASE_RENEW_S - 0.1
    held.keep()
    assert store.asked == ["acquire"]
    clock.now += 0.1
    held.keep()
    assert store.asked == ["acquire", "renew"]


def test_a_store_that_is_away_for_a_moment_changes_nothing(held: Held, store: Store, clock: Time) -> None:
    held.keep()
    store.error = Transient("store", "away")
    clock.now += LEASE_GIVE_UP_S - 0.1
    assert held.keep() is not None


def test_a_holder_that_could_not_renew_gives_up_before_the_lease_ends(held: Held, store: Store, clock: Time) -> None:
    held.keep()
    store.error = Transient("store", "away")
    clock.now += LEASE_GIVE_UP_S
    with pytest.raises(Transient):
        held.keep()
    assert not held.has_time_for(0)


def test_a_lost_lease_is_gone_at_once(held: Held, store: Store, clock: Time) -> None:
    held.keep()
    store.error = LeaseLost("store", "taken")
    clock.now += LEASE_RENEW_S
    assert held.keep() is None


def test_no_call_is_begun_that_could_end_after_the_lease(held: Held, clock: Time) -> None:
    held.keep()
    clock.now += LEASE_S - RPC_TIMEOUT_S
    assert held.has_time_for(RPC_TIMEOUT_S)
    clock.now += 0.1
    assert not held.has_time_for(RPC_TIMEOUT_S)


def test_releasing_survives_a_store_that_is_away(held: Held, store: Store) -> None:
    held.keep()
    store.error = Transient("store", "away")
    held.release()
    assert not held.has_time_for(0)


class Orders:
    """Counts what an engine is asked to change."""

    name, slots, directory, features, rpc_timeout_s = "a", 1, "/", None, RPC_TIMEOUT_S

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, verb: str) -> Callable[..., list[str]]:
        def ask(*_: object) -> list[str]:
            self.asked.append(verb)
            return []

        return ask


@pytest.mark.parametrize("verb", ["submit", "pause", "remove"])
def test_an_engine_is_asked_for_no_change_that_could_end_after_the_lease(held: Held, clock: Time, verb: str) -> None:
    orders = Orders()
    engine = Fenced(orders, held)  # type: ignore[arg-type]
    with pytest.raises(LeaseLost):
        getattr(engine, verb)([])
    held.keep()
    getattr(engine, verb)([])
    clock.now += LEASE_S - RPC_TIMEOUT_S + 0.1
    with pytest.raises(LeaseLost, match="'engine:a' was confirmed 20 s ago"):
        getattr(engine, verb)([])
    assert orders.asked == [verb]
    engine.poll()
    assert orders.asked == [verb, "poll"], "looking is harmless"
