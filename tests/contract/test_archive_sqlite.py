"""The archive of an SQLite store: the contract, and what only a file can do."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.contract.archive_suite import ArchiveSuite, dumped, nothing, taken
from tests.contract.store_jobs import a_job, some_jobs
from tests.contract.store_suite import Opener
from worker.jobs.errors import Rejected, Transient
from worker.ports import Archive, JobFilter
from worker.store import open_archive, open_store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "haul.db"


@pytest.fixture
def opener(file: Path) -> Opener:
    return partial(open_store, f"sqlite:///{file}")


@pytest.fixture
def archive(file: Path) -> Archive:
    return open_archive(f"sqlite:///{file}")


class TestContract(ArchiveSuite):
    pass


def test_a_copy_is_of_one_moment_though_every_step_of_it_is_overtaken_by_a_write(
    opener: Opener, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.store.sqlite.copies.STEP_PAGES", 1)
    with closing(opener()) as store:
        store.insert(some_jobs(20))
        steps = []

        def spend(count: int) -> None:
            if count and len(steps) < 40:
                steps.append(count)
                store.insert([a_job(f"k{len(steps)}")])

        with closing(archive.dump(tmp_path, spend)) as dump:
            jobs = next(table for table in dump.tables() if table.name == "jobs")
        assert len(steps) > 20
        assert jobs.documents == 20


def test_what_was_there_before_is_kept_whole_with_what_was_only_in_its_log(opener: Opener, archive: Archive, tmp_path: Path) -> None:
    with closing(opener()) as store:
        store.insert([a_job("a")])
    parts, _ = dumped(archive, tmp_path / "s")
    with closing(opener()) as store:
        store.insert([a_job("b")])
        other = sqlite3.connect(tmp_path / "data" / "haul.db")
        other.execute("SELECT count(*) FROM jobs").fetchone()  # an open reader: the log is not written back at the end
    with closing(archive.load(nothing)) as load:
        taken(load, parts)
        other.close()
        kept = load.commit()
    assert kept is not None
    with closing(open_store(f"sqlite:///{kept}")) as store:
        assert [job.key for job in store.page(JobFilter(), 9).jobs] == ["b", "a"]
    with closing(opener()) as store:
        assert [job.key for job in store.page(JobFilter(), 9).jobs] == ["a"]


@pytest.mark.parametrize("at", [60, 4096])
def test_a_damaged_file_gives_no_dump_and_is_kept_when_a_backup_takes_its_place(
    opener: Opener, archive: Archive, file: Path, tmp_path: Path, at: int
) -> None:
    with closing(opener()) as store:
        store.insert(some_jobs(50))
    parts, tables = dumped(archive, tmp_path / "s")
    broken = bytearray(file.read_bytes())
    broken[at:] = b"\xee" * len(broken[at:])
    file.write_bytes(broken)
    with pytest.raises(Transient, match="damaged"):
        archive.dump(tmp_path / "s", nothing)
    assert not list((tmp_path / "s").iterdir())
    with closing(archive.load(nothing)) as load:
        assert taken(load, parts) == tables
        kept = load.commit()
    assert kept is not None
    assert kept.read_bytes() == broken
    with closing(opener()) as store:
        assert len(store.page(JobFilter(), 99).jobs) == 50


def test_a_file_that_somebody_uses_is_not_replaced(opener: Opener, archive: Archive, file: Path, tmp_path: Path) -> None:
    with closing(opener()) as store:
        store.insert([a_job("a")])
    parts, _ = dumped(archive, tmp_path / "s")
    with closing(opener()) as store:
        store.insert([a_job("b")])
        with closing(archive.load(nothing)) as load:
            taken(load, parts)
            with pytest.raises(Exception, match="stop Haul on it first"):
                load.commit()
        store.insert([a_job("c")])
        assert len(store.page(JobFilter(), 9).jobs) == 3


def test_there_is_nothing_to_dump_where_there_is_no_store(archive: Archive, file: Path, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=f"there is no store at {file}"):
        archive.dump(tmp_path, nothing)
    assert archive.documents() == 0
    assert not file.exists()


def test_a_reader_may_write_all_the_while(opener: Opener, archive: Archive, tmp_path: Path) -> None:
    with closing(opener()) as store:
        store.insert(some_jobs(200))
        worst = []

        def slow(count: int) -> None:
            time.sleep(0.02 if count else 0)

        def write() -> None:
            for number in range(30):
                begun = time.monotonic()
                store.insert([a_job(f"k{number}")])
                worst.append(time.monotonic() - begun)

        writer = threading.Thread(target=write)
        writer.start()
        with closing(archive.dump(tmp_path, slow)):
            pass
        writer.join(60)
        assert len(worst) == 30
        assert max(worst) < 4, "no writer waited for the backup until its time was up"
