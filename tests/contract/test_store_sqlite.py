"""`JobStore` on SQLite: the contract, and what is SQLite's own."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from tests.contract.breaker_suite import BreakerSuite
from tests.contract.drains_suite import DrainsSuite
from tests.contract.limits_suite import LimitsSuite
from tests.contract.store_contract import StoreSuite
from tests.contract.store_jobs import NOW, a_job, a_torrent_job, admitted, change, described, some_jobs, started
from tests.contract.store_races import StoreRaces
from tests.contract.store_space import SpaceSuite
from tests.contract.store_suite import Opener, lease_of
from tests.contract.upkeep_suite import UpkeepSuite
from worker.jobs.document import to_document
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.model import Job, Progress, Result
from worker.jobs.probe import Probe
from worker.jobs.states import State
from worker.ports import Change, JobFilter
from worker.settings import SettingsError
from worker.store import open_store
from worker.store.advisor import Advisor
from worker.store.outage import Outage
from worker.store.sqlite import connections as sqlite_connections
from worker.store.sqlite import queries as sqlite_queries
from worker.store.sqlite import schema as sqlite_schema
from worker.store.sqlite.schema import SCHEMA_VERSION
from worker.store.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "haul.db"


@pytest.fixture
def opener(path: Path) -> Opener:
    return partial(open_store, f"sqlite:///{path}")


class TestContract(StoreSuite):
    pass


class TestLimits(LimitsSuite):
    pass


class TestBreakers(BreakerSuite):
    pass


class TestDrains(DrainsSuite):
    pass


class TestUpkeep(UpkeepSuite):
    """What the works by the clock ask of it."""


class TestSpace(SpaceSuite):
    """What is kept for jobs, and who waits for some."""


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


# ---- files of earlier versions -----------------------------------------------------------------------------------

#: What the first version made of an empty file.
VERSION_1 = """
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, offset REAL NOT NULL, latest REAL NOT NULL,
    changes INTEGER NOT NULL);
CREATE TABLE jobs (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, state TEXT NOT NULL,
    version INTEGER NOT NULL, changed INTEGER NOT NULL, event INTEGER NOT NULL, sent INTEGER NOT NULL, engine TEXT,
    needs_owner INTEGER NOT NULL, document TEXT NOT NULL);
CREATE TABLE progress (seq INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT, token INTEGER NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, slot TEXT NOT NULL, owner TEXT NOT NULL,
    started_at REAL NOT NULL, ended_at REAL, ok INTEGER, report TEXT NOT NULL DEFAULT '{}',
    UNIQUE (name, slot));
CREATE INDEX jobs_by_user ON jobs (user, state);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_at_engine ON jobs (engine, state) WHERE engine IS NOT NULL;
CREATE INDEX runs_by_name ON runs (name);
CREATE INDEX jobs_by_state_and_id ON jobs (state, id);
CREATE INDEX jobs_needing_owner ON jobs (engine, changed) WHERE needs_owner = 1;
CREATE INDEX jobs_unsent ON jobs (changed) WHERE event > sent;
INSERT INTO meta VALUES (1, '', 0, 0, 0);
"""


@pytest.fixture
def old_jobs(path: Path) -> list[Job]:
    """Jobs in a file of the first version, as that version wrote them, progress and marks included."""
    path.parent.mkdir()
    finishing = started(admitted(a_job("seeding"))).moved(State.FINISHING, NOW, "finishing")
    torrent = a_torrent_job("torrent")
    jobs = [
        a_job("queued"),
        torrent,
        a_torrent_job("another torrent").moved(State.PAUSED, NOW, "paused"),
        started(admitted(a_job("downloading"))),
        finishing.moved(State.DONE, NOW, "done", seeding=True),
        replace(started(admitted(a_job("failed"))).moved(State.FAILED, NOW, "failed"), sent=4),
    ]
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
        connection.execute("PRAGMA user_version = 1")
        for place, job in enumerate(jobs, 1):
            connection.execute(f"INSERT INTO jobs VALUES ({', '.join('?' * 11)})", version_1_row(place, job))
        connection.execute("INSERT INTO progress VALUES (4, ?)", (json.dumps(asdict(Progress(5, 10, 2))),))
        connection.execute("INSERT INTO runs (name, slot, owner, started_at) VALUES ('backup', '1', 'a', 5.0)")
        connection.execute("INSERT INTO leases VALUES ('engine:aria2', NULL, 7, 0)")
        connection.execute("UPDATE meta SET changes = 6")
    connection.close()
    return [replace(job, progress=Progress(5, 10, 2)) if job.state is State.DOWNLOADING else job for job in jobs]


def version_1_row(place: int, job: Job) -> tuple[object, ...]:
    """The row of a job, its document without the fields that came later."""
    document = {name: value for name, value in to_document(job).items() if name not in ("progress", "sent", "description", "hook")}
    event = max(event.version for event in job.events if event.type)
    engine = job.transfer.engine if job.transfer and not job.terminal else None
    return (place, job.id, job.user, job.state, job.version, place, event, job.sent, engine, job.needs_owner, json.dumps(document))


def test_a_file_of_the_first_version_opens_with_all_it_has(old_jobs: list[Job], opener: Opener) -> None:
    store = opener()
    queued, torrent, _, downloading, seeding, _ = old_jobs
    at_engine = sorted((downloading, seeding), key=lambda job: job.id)
    assert store.page(JobFilter(), 9).jobs == tuple(old_jobs[::-1])
    assert store.undescribed(9) == [torrent]
    assert sorted(store.at_engine("aria2"), key=lambda job: job.id) == at_engine
    assert store.engine_counts() == {"aria2": 1}
    assert list(store.slot_counts().values()) == [1]
    held = [job for job in old_jobs if job.transfer is not None]
    assert sorted(store.holding([job.id for job in held]), key=lambda job: job.id) == sorted(held, key=lambda job: job.id)
    assert [run.slot for run in store.runs("backup", 9)] == ["1"]
    assert lease_of(store, "engine:aria2").token == 8
    change(store, queued, queued.noted(NOW, "a change"))
    change(store, torrent, described(torrent, store.keep_torrent(b"document")))
    assert store.undescribed(9) == []
    store.close()
    again = opener()
    assert sorted(again.at_engine("aria2"), key=lambda job: job.id) == at_engine
    assert again.undescribed(9) == []
    again.close()


def test_a_file_of_the_first_version_becomes_like_a_new_one(old_jobs: list[Job], opener: Opener, path: Path, tmp_path: Path) -> None:
    opener().close()
    open_store(f"sqlite:///{tmp_path / 'new.db'}").close()
    assert layout(path) == layout(tmp_path / "new.db")


def test_a_file_of_the_fourth_version_becomes_like_a_new_one_and_knows_when_its_jobs_came(
    opener: Opener, path: Path, tmp_path: Path
) -> None:
    job = replace(a_job("old"), created_at=NOW, probe=Probe(size=7))
    store = opener()
    store.insert([job])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE jobs SET document = ?", (json.dumps(to_document(job)),))
        connection.executescript("DROP TABLE breakers; DROP TABLE drains")
        connection.execute("DROP INDEX jobs_by_user_and_time")
        connection.execute("ALTER TABLE jobs DROP COLUMN created_at")
        connection.execute("CREATE INDEX jobs_by_user_and_time ON jobs (user, json_extract(document, '$.created_at'))")
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    store = opener()
    assert store.get([job.id]) == {job.id: job}
    assert store.usage([job.user], NOW)[job.user].size == 7
    assert store.usage([job.user], NOW + 1)[job.user].size == 0
    store.close()
    open_store(f"sqlite:///{tmp_path / 'new.db'}").close()
    assert layout(path) == layout(tmp_path / "new.db")


def test_a_record_keeps_names_that_are_no_text_and_numbers_that_are_too_large_for_others(opener: Opener) -> None:
    job = a_job("odd").noted(NOW, "no text: \udcff", message="\udcff")
    odd = replace(job, result=Result("/out/\udcff", 10**30))
    store = opener()
    store.insert([odd])
    assert store.get([odd.id]) == {odd.id: odd}
    store.close()


def layout(path: Path) -> dict[str, object]:
    """Columns by table and index, and the file's version."""
    connection = sqlite3.connect(path)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
    found = {name: connection.execute(f"PRAGMA table_xinfo('{name}')").fetchall() for name in names}
    found |= {f"indexes of {name}": sorted(row[1:] for row in connection.execute(f"PRAGMA index_list('{name}')")) for name in names}
    found["version"] = connection.execute("PRAGMA user_version").fetchall()
    connection.close()
    return dict(found)


def test_an_upgrade_that_breaks_off_leaves_the_file_as_it_was(
    old_jobs: list[Job], opener: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = layout(path)
    with monkeypatch.context() as broken:
        broken.setattr(sqlite_schema, "UPGRADES", {1: (*sqlite_schema.UPGRADES[1], "SELECT broken")})
        with pytest.raises(sqlite3.OperationalError, match="broken"):
            opener()
    assert layout(path) == before
    store = opener()
    assert store.page(JobFilter(), 9).jobs == tuple(old_jobs[::-1])
    store.close()


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
        "SCAN limits",
        "SCAN breakers",
        "SCAN drains",
        "SCAN jobs USING INDEX jobs_unsent",
    )  # the ids asked for; a row an engine, twice; what an operator set; what is looked for
    if name in ("RUNS", "page of any "):
        allowed += ("SCAN runs", "SCAN jobs")  # the tables' own order, and a limit
    if name in ("COUNTS", "ENGINE_COUNTS", "ENGINE_STATES", "SLOT_COUNTS", "FOLLOWED"):
        allowed += ("SCAN jobs USING COVERING INDEX",)  # all of them are counted
    if name == "SLOT_URIS":
        allowed += ("SCAN jobs USING INDEX jobs_in_slot",)  # partial: those that take a slot
    if name in ("PROMISED", "SHORT_OF_SPACE"):
        allowed += ("SCAN jobs USING COVERING INDEX jobs_promised", "SCAN jobs USING INDEX jobs_short")  # partial, read in its order
    assert [line for line in plan if "SCAN" in line and not line.startswith(allowed)] == []
    assert [line for line in plan if "TEMP B-TREE" in line] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("AT_ENGINE", "jobs_at_engine (engine=?)"),
        ("NEEDING_OWNER", "jobs_needing_owner (engine=?)"),
        ("UNSENT", "jobs_unsent"),
        ("UNDESCRIBED", "jobs_undescribed (id>?)"),
        ("UNPROBED", "jobs_unprobed (id>?)"),
        ("PROMISED", "COVERING INDEX jobs_promised"),
        ("SHORT_OF_SPACE", "jobs_short"),
        ("UNPOSTED", "jobs_unposted (<expr>=? AND <expr><?)"),
        ("TORRENTS", "sqlite_autoindex_torrents_1 (id=?)"),
        ("HOLDING", "jobs_holding (holds=?)"),
        ("FOLLOWING", "jobs_following (follows=?)"),
        ("SHARING", "jobs_by_content (content=?)"),
        ("SHARING", "jobs_by_content2 (content2=?)"),
        ("FOLLOWED", "COVERING INDEX jobs_following"),
        ("IN_STATE", "jobs_by_state_and_id (state=? AND id>?)"),
        ("COUNTS", "COVERING INDEX jobs_by_state"),
        ("COUNTS_OF", "COVERING INDEX jobs_by_state"),
        ("ENGINE_COUNTS", "COVERING INDEX jobs_at_engine"),
        ("ENGINE_STATES", "COVERING INDEX jobs_at_engine"),
        ("RUNS_OF", "runs_by_name (name=?)"),
        ("FINISHED", "jobs_by_state (state=? AND rowid>?)"),
        ("DROP_RUNS", "runs_by_name (name=?"),
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


def test_the_first_writes_of_a_process_that_find_it_locked_are_passing_faults_while_the_advisor_watches(
    path: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener().close()
    monkeypatch.setattr(sqlite_connections, "BUSY_S", 0.05)
    monkeypatch.setattr(Outage, "check", lambda _: None)  # each caller tries
    advisor = Advisor(lambda _: None)
    store = SqliteStore(path, advisor=advisor)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        with pytest.raises(Transient, match="kept the database locked"):
            store.insert([a_job("k")])
    other.execute("ROLLBACK")
    other.close()
    assert store.insert([a_job("k")])[0].created
    store.close()


def test_a_file_that_is_up_to_date_opens_while_another_process_writes(path: Path, opener: Opener) -> None:
    first = opener()
    job = a_job("k")
    first.insert([job])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    second = opener()
    assert second.get([job.id]) == {job.id: job}
    assert second.now() == pytest.approx(first.now(), abs=1)
    other.close()
    first.close()
    second.close()


def test_a_file_that_was_taken_away_is_neither_used_nor_made_anew(path: Path, opener: Opener) -> None:
    store = opener()
    job = a_job("k")
    store.insert([job])
    path.rename(path.with_suffix(".aside"))
    for call in (lambda: store.insert([a_job("lost")]), lambda: store.get([job.id])):
        with pytest.raises(Transient, match="was removed or replaced while it was open; put it back"):
            call()
    with pytest.raises(SettingsError, match=r"is gone, and its log .* is still there; put the file back"):
        opener()
    assert not path.exists()
    path.with_suffix(".aside").rename(path)
    assert store.get([job.id]) == {job.id: job}
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
