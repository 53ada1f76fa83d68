"""What happens to a file: locked, taken away, full, damaged, closed."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.contract.store_jobs import a_job, admitted, some_jobs
from tests.contract.store_suite import Opener
from worker.jobs.errors import Transient
from worker.ports import Change
from worker.settings import SettingsError
from worker.store.advisor import Advisor
from worker.store.outage import Outage
from worker.store.sqlite import connections as sqlite_connections
from worker.store.sqlite.store import SqliteStore


def test_a_write_is_on_the_disk_when_it_returns(path: Path, opener: Opener) -> None:
    store = opener()
    assert isinstance(store, SqliteStore)
    with store._file.writing() as writer:
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
    with store._file.writing() as writer:
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages + 5}")
    jobs = some_jobs(500)
    with pytest.raises(Transient, match="the disk is full; free some space"):
        store.insert(jobs)
    assert store.get(job.id for job in jobs) == {}
    with store._file.writing() as writer:
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
    with store._file.reading() as reader, store._file.writing() as writer:
        closing = threading.Thread(target=store.close)
        closing.start()
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        assert writer.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    closing.join(10)
    assert not closing.is_alive()
