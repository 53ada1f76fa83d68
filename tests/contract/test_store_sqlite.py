"""`JobStore` on SQLite: the contract, and what is SQLite's own."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, some_jobs
from tests.contract.store_races import StoreRaces
from tests.contract.store_suite import Opener, StoreSuite
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.states import State
from worker.ports import Change
from worker.settings import SettingsError
from worker.store import open_store, sqlite_connections, sqlite_queries
from worker.store.sqlite import SqliteStore
from worker.store.sqlite_schema import SCHEMA_VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "haul.db"


@pytest.fixture
def opener(path: Path) -> Opener:
    return partial(open_store, f"sqlite:///{path}")


class TestContract(StoreSuite):
    pass


class TestRaces(StoreRaces):
    pass


# ---- the address -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://{}", "sqlite:///{}"])
def test_a_path_is_taken_as_it_is_written(tmp_path: Path, url: str) -> None:
    path = tmp_path / "a b%20c#d?e" / "haul.db"
    open_store(url.format(path)).close()
    assert path.is_file()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mongodb://user:hunter2@host/haul", "stores in SQLite only"),
        ("mongodb+srv://user:hunter2@host/haul", "stores in SQLite only"),
        ("postgresql://user:hunter2@host/haul", "postgresql: is not the address"),
        ("sqlite://relative/path", "sqlite: is not the address"),
        ("sqlite:///", "sqlite: is not the address"),
        ("/just/a/path", "the value is not the address"),
        ("", "the value is not the address"),
    ],
)
def test_an_address_that_cannot_be_is_refused_by_the_name_of_its_setting(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match="HAUL_STORE_URL") as caught:
        open_store(url)
    assert words in str(caught.value)
    assert "sqlite:///absolute/path" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_file_is_the_owners_alone(path: Path, opener: Opener) -> None:
    store = opener()
    store.insert([a_job("k")])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"haul.db": 0o600, "haul.db-wal": 0o600, "haul.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_a_file_of_something_else_is_refused_and_left_alone(path: Path, opener: Opener) -> None:
    path.parent.mkdir()
    path.write_text("my diary, and nothing but my diary")
    with pytest.raises(SettingsError, match=r"HAUL_STORE_URL: .*haul\.db is not an SQLite database"):
        opener()
    assert path.read_text() == "my diary, and nothing but my diary"


def test_a_directory_in_its_place_is_refused(path: Path, opener: Opener) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"HAUL_STORE_URL: .*cannot be opened: Is a directory"):
        opener()


def test_a_schema_of_a_newer_version_is_refused_and_left_alone(path: Path, opener: Opener) -> None:
    opener().close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(
        SettingsError, match=rf"newer version of Haul \(schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\); upgrade"
    ):
        opener()


# ---- the queries -------------------------------------------------------------------------------------------------

QUERIES = {
    name: text for name, text in vars(sqlite_queries).items() if isinstance(text, str) and name.isupper() and not name.startswith("_")
}
PAGES = {
    f"page of {states or 'any'} {'of a user' if of_user else ''}": sqlite_queries.page(states, of_user=of_user)
    for states in (None, frozenset({State.DONE}), frozenset(State))
    for of_user in (False, True)
}


@pytest.fixture
def connection(path: Path, opener: Opener) -> Iterator[sqlite3.Connection]:
    opener().close()
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


class Anything(dict[str, int]):
    """A value for every name a query binds."""

    def __missing__(self, name: str) -> int:
        return 1


@pytest.mark.parametrize("name", [*QUERIES, *PAGES])
def test_every_query_goes_by_an_index_and_sorts_nothing(connection: sqlite3.Connection, name: str) -> None:
    query = {**QUERIES, **PAGES}[name]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", Anything())]
    allowed = (
        "SCAN json_each",
        "SCAN leases",
        "SCAN jobs USING INDEX jobs_unsent",
    )  # the ids asked for; a row an engine; what is looked for
    if name in ("RUNS", "page of any "):
        allowed += ("SCAN runs", "SCAN jobs")  # the tables' own order, and a limit
    if name in ("COUNTS", "ENGINE_COUNTS"):
        allowed += ("SCAN jobs USING COVERING INDEX",)  # all of them are counted
    assert [line for line in plan if "SCAN" in line and not line.startswith(allowed)] == []
    assert [line for line in plan if "TEMP B-TREE" in line] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("AT_ENGINE", "jobs_at_engine (engine=?)"),
        ("NEEDING_OWNER", "jobs_needing_owner (engine=?)"),
        ("UNSENT", "jobs_unsent"),
        ("IN_STATE", "jobs_by_state_and_id (state=? AND id>?)"),
        ("COUNTS", "COVERING INDEX jobs_by_state"),
        ("COUNTS_OF", "COVERING INDEX jobs_by_state"),
        ("ENGINE_COUNTS", "COVERING INDEX jobs_at_engine"),
        ("RUNS_OF", "runs_by_name (name=?)"),
    ],
)
def test_a_query_goes_by_the_index_made_for_it(connection: sqlite3.Connection, name: str, index: str) -> None:
    plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", Anything()))
    assert index in plan


# ---- faults ------------------------------------------------------------------------------------------------------


def test_a_write_is_on_the_disk_when_it_returns(path: Path, opener: Opener) -> None:
    store = opener()
    assert isinstance(store, SqliteStore)
    with store._connections.writing() as writer:
        assert writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_database_somebody_keeps_locked_is_a_passing_fault(path: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "BUSY_S", 0.05)
    store = opener()
    job = a_job("k")
    store.insert([job])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient, match=r"store: .*another process kept the database locked"):
        store.apply([Change(job, admitted(job))])
    assert store.get([job.id]) == {job.id: job}, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert store.apply([Change(job, admitted(job))])[0].won
    store.close()


def test_a_full_disk_is_a_passing_fault_and_half_a_batch_is_not_written(opener: Opener) -> None:
    store = opener()
    assert isinstance(store, SqliteStore)
    kept = a_job("kept")
    store.insert([kept])
    with store._connections.writing() as writer:
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages + 5}")
    jobs = some_jobs(500)
    with pytest.raises(Transient, match="the disk is full; free some space"):
        store.insert(jobs)
    assert store.get(job.id for job in jobs) == {}
    with store._connections.writing() as writer:
        writer.execute("PRAGMA max_page_count = 1000000")
    assert all(inserted.created for inserted in store.insert(jobs))
    assert store.get([kept.id]) == {kept.id: kept}
    store.close()


def test_a_damaged_database_is_told_in_words(path: Path, opener: Opener) -> None:
    store = opener()
    store.insert(some_jobs(500))
    store.close()
    half = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(half)
        file.write(os.urandom(half))
    store = opener()
    with pytest.raises(Transient, match="the database is damaged; restore a backup"):
        store.get(job.id for job in some_jobs(500))
    store.close()


def test_a_closed_store_says_so(opener: Opener) -> None:
    store = opener()
    store.ping()
    store.close()
    for call in (store.ping, store.counts, lambda: store.insert([a_job("k")])):
        with pytest.raises(Transient, match="closed in this process"):
            call()


def test_closing_waits_for_the_calls_under_way(opener: Opener) -> None:
    store = opener()
    assert isinstance(store, SqliteStore)
    with store._connections.reading() as reader, store._connections.writing() as writer:
        closing = threading.Thread(target=store.close)
        closing.start()
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        assert writer.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    closing.join(10)
    assert not closing.is_alive()


# ---- the clock ---------------------------------------------------------------------------------------------------


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
