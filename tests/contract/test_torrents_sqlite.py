"""`.torrent` files in an SQLite store: the contract, and files and processes of the version before."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, WAIT_S, a_job, a_torrent_job, described
from tests.contract.store_suite import Opener
from tests.contract.store_unnamed import DOCUMENT, KeptTorrents, naming, noted_before, notes
from worker.jobs.document import to_document
from worker.ports import JobStore
from worker.store import open_store
from worker.store.sqlite import queries
from worker.store.sqlite.schema import SCHEMA_VERSION
from worker.store.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haul.db"


@pytest.fixture
def opener(path: Path) -> Opener:
    return partial(open_store, f"sqlite:///{path}")


class TestContract(KeptTorrents):
    @contextmanager
    def amid(self, store: JobStore, then: Callable[[], object]) -> Iterator[None]:
        """All of a removal is one transaction: what comes in between waits for its end."""
        assert isinstance(store, SqliteStore)
        file, thread = store._file, threading.Thread(target=then)
        clock = file._clock

        def asked_within() -> float:
            if thread.ident is None:
                assert file._connections._writer.in_transaction
                thread.start()
            return clock()

        file._clock = asked_within
        yield
        file._clock = clock
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_a_job_that_a_process_of_the_version_before_writes_keeps_its_file(path: Path, opener: Opener) -> None:
    with closing(opener()) as store:
        names = [store.keep_torrent(document) for document in (b"recorded", b"described")]
        late = a_torrent_job("late")
        store.insert([late])
        recorded, changed = described(a_torrent_job("early"), names[0]), described(late, names[1])
        before = noted_before(store, *names)
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            text = json.dumps(to_document(recorded))
            columns = "id, user, state, version, changed, event, sent, needs_owner, document"
            values = (recorded.id, "u", "queued", 2, 9, 1, 0, 0, text)
            old.execute(f"INSERT INTO jobs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            old.execute("UPDATE jobs SET document = ?, version = 2 WHERE id = ?", (json.dumps(to_document(changed)), late.id))
        assert store.forget_torrents(names, before) == 0
        assert set(store.torrents(names)) == set(names)


def test_a_file_of_the_fifth_version_becomes_like_a_new_one_and_its_jobs_name_their_torrents(
    opener: Opener, path: Path, tmp_path: Path
) -> None:
    with closing(opener()) as store:
        named, unnamed = store.keep_torrent(DOCUMENT), store.keep_torrent(b"nobody's")
        naming(store, "a", named)
        store.insert([a_job("of another kind"), a_torrent_job("not described")])
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE unnamed; DROP INDEX jobs_by_torrent; ALTER TABLE jobs DROP COLUMN torrent")
        connection.execute("PRAGMA user_version = 5")
    with closing(opener()) as store:
        assert store.drift() == ()
        assert notes(store, named, unnamed) == {unnamed: None}, "it counts from when it is first seen"
        assert store.forget_torrents([named, unnamed], noted_before(store, unnamed)) == 1
        assert list(store.torrents([named, unnamed])) == [named]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        kinds = "SELECT json_extract(document, '$.source.kind'), torrent FROM jobs ORDER BY seq"
        assert connection.execute(kinds).fetchall() == [("torrent", 1), ("http", 0), ("torrent", 1)]


def test_jobs_of_other_kinds_are_not_in_the_index_of_those_that_name_a_file(path: Path, opener: Opener) -> None:
    with closing(opener()) as store:
        store.insert([a_job(f"{number}") for number in range(20)])
        naming(store, "a", "0" * 64)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs INDEXED BY jobs_by_torrent WHERE torrent = 1").fetchone() == (1,)


@pytest.mark.parametrize("query", ["TORRENTS_LOOKED_AT", "NOTE_UNNAMED", "FORGET_TORRENTS"])
def test_what_names_a_file_is_found_by_its_index(path: Path, opener: Opener, query: str) -> None:
    opener().close()
    with closing(sqlite3.connect(path)) as connection:
        values = {"after": "", "limit": 1, "ids": "[]", "now": NOW, "before": NOW}
        plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {getattr(queries, query)}", values))
    assert "jobs USING INDEX jobs_by_torrent (<expr>=?)" in plan
    assert "torrents USING COVERING INDEX" in plan, "the files themselves are not read to look at them"
