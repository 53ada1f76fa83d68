"""The clock of a store, which no reboot takes back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, a_job
from tests.contract.store_suite import Opener
from worker.jobs.errors import LeaseLost
from worker.store import open_store


def test_no_lease_outlives_a_reboot_by_its_own_clock(path: Path, opener: Opener) -> None:
    store = opener()
    lease = store.acquire_lease("engine:aria2", "a", 100_000)
    assert lease is not None
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET boot = 'an earlier boot', offset = offset + 12345")
    connection.close()
    store = opener()
    assert store.now() >= lease.until
    with pytest.raises(LeaseLost):
        store.record_progress({}, lease)
    assert store.acquire_lease("engine:aria2", "b", 10) is not None
    store.close()


def test_a_test_may_bring_its_own_clock(path: Path) -> None:
    now = [100.0]
    store = open_store(f"sqlite:///{path}", clock=lambda: now[0])
    lease = store.acquire_lease("engine:aria2", "a", 30.0)
    assert lease is not None
    assert (store.now(), lease.until) == (100.0, 130.0)
    now[0] = 129.9
    assert store.acquire_lease("engine:aria2", "b", 30.0) is None
    store.apply([], lease)
    now[0] = 130.0
    with pytest.raises(LeaseLost):
        store.apply([], lease)
    store.close()


def test_the_last_write_bounds_the_clock_of_the_next_boot(path: Path) -> None:
    far = 9_999_999_999.0
    store = open_store(f"sqlite:///{path}", clock=lambda: far)
    store.insert([a_job("k")])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET boot = 'an earlier boot'")
    connection.close()
    store = open_store(f"sqlite:///{path}")
    assert store.now() >= far > NOW
    store.close()
