"""Files of earlier versions become like new ones."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, a_job, a_torrent_job, admitted, change, described, started
from tests.contract.store_suite import Opener, lease_of
from worker.jobs.document import to_document
from worker.jobs.model import Job, Progress, Result
from worker.jobs.probe import Probe
from worker.jobs.states import State
from worker.ports import JobFilter
from worker.store import open_store
from worker.store.sqlite import schema as sqlite_schema

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
        connection.executescript("DROP TABLE breakers; DROP TABLE drains; DROP TABLE unnamed; DROP INDEX jobs_by_torrent")
        connection.execute("ALTER TABLE jobs DROP COLUMN torrent")
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
