"""What each `Archive` promises: everything that is read is what is written, and nothing live changes before all of it is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, change, some_jobs
from tests.contract.store_suite import LONG_S, Opener
from tests.integration.grown import everything, grow
from worker.jobs.states import State
from worker.ports import Archive, JobFilter, Load, Table

JOBS = 160
PIECE = 7_777


def nothing(count: int) -> None:
    """Nobody counts."""


def dumped(archive: Archive, scratch: Path) -> tuple[dict[str, bytes], dict[str, Table]]:
    """The parts of a dump, and its tables by name."""
    scratch.mkdir(exist_ok=True)
    with closing(archive.dump(scratch, nothing)) as dump:
        parts = {name: b"".join(chunks) for name, chunks in dump.parts()}
        return parts, {table.name: table for table in dump.tables()}


def taken(load: Load, parts: Mapping[str, bytes]) -> dict[str, Table]:
    """Give a load the parts that it wants, in pieces that end anywhere; its tables by name."""
    for name, content in parts.items():
        if load.wants(name):
            load.take(name, (content[at : at + PIECE] for at in range(0, len(content), PIECE)))
    return {table.name: table for table in load.settle()}


class ArchiveSuite:
    """Subclasses of a module with the fixtures `opener`, and `archive` of the same store."""

    @pytest.fixture
    def grown(self, opener: Opener) -> Iterator[None]:
        with closing(opener()) as store:
            grow(store, JOBS)
        return None

    def test_what_was_dumped_is_loaded_and_is_the_same(self, opener: Opener, archive: Archive, grown: None, tmp_path: Path) -> None:
        with closing(opener()) as store:
            before, limits = everything(store), {"user:ann": {"queued": 3}}
            store.set_limits(limits)
        parts, tables = dumped(archive, tmp_path / "s")
        assert tables["jobs"].documents == archive.documents() == JOBS
        assert tables["runs"].documents == JOBS
        with closing(opener()) as store:  # it goes on, and is put back
            store.insert([a_job("later")])
            store.set_limits({"user:bob": {}}, drop=["user:ann"])
            store.claim_run("backup", "later", "x")
        with closing(archive.load(nothing)) as load:
            assert taken(load, parts) == tables
            load.commit()
        with closing(opener()) as store:
            assert everything(store) == before
            assert store.limits() == limits
            after = a_job("after")
            store.insert([after])
            assert store.page(JobFilter(), 1).jobs == (after,), "numbers are not given twice"

    def test_what_is_loaded_apart_is_an_ordinary_store_and_leaves_nothing(
        self, opener: Opener, archive: Archive, grown: None, tmp_path: Path
    ) -> None:
        with closing(opener()) as store:
            before = everything(store)
        parts, tables = dumped(archive, tmp_path / "s")
        with closing(archive.load(nothing, apart=tmp_path / "apart")) as load:
            assert taken(load, parts) == tables
            with closing(load.open()) as scratch:
                assert everything(scratch) == before
                scratch.insert([a_job("of the trial")])
        with closing(opener()) as store:
            assert everything(store) == before
        assert not list((tmp_path / "apart").iterdir()) if (tmp_path / "apart").exists() else True
        assert dumped(archive, tmp_path / "s")[1] == tables

    def test_a_load_that_is_not_committed_changes_nothing(self, opener: Opener, archive: Archive, grown: None, tmp_path: Path) -> None:
        parts, tables = dumped(archive, tmp_path / "s")
        with closing(opener()) as store:
            store.insert([a_job("later")])
            before = everything(store)
        with closing(archive.load(nothing)) as load:
            taken(load, parts)
        abandoned = archive.load(nothing)
        taken(abandoned, parts)  # and its process dies, as far as the others can see
        with closing(opener()) as store:
            assert everything(store) == before
        with closing(archive.load(nothing)) as load:
            assert taken(load, parts) == tables
        abandoned.close()
        assert set(dumped(archive, tmp_path / "s")[1]) == set(tables), "what the dead one left is in no backup"

    def test_one_collection_is_put_back_and_the_others_stay(self, opener: Opener, archive: Archive, grown: None, tmp_path: Path) -> None:
        with closing(opener()) as store:
            jobs, runs, _ = everything(store)
        parts, _ = dumped(archive, tmp_path / "s")
        with closing(opener()) as store:
            store.claim_run("backup", "later", "x")
            [first, *_] = jobs
            change(store, first, first.noted(NOW, "later"))
            store.insert(some_jobs(3))
        with closing(archive.load(nothing, only=["jobs"])) as load:
            assert "runs" not in taken(load, parts)
            load.commit()
        with closing(opener()) as store:
            assert everything(store)[0] == jobs
            assert len(store.runs(None, 10_000)) == len(runs) + 1
            queued = a_job("after")
            store.insert([queued])
            assert store.page(JobFilter(), 1).jobs == (queued,)
            change(store, queued, admitted(queued))
            assert store.get([queued.id])[queued.id].state is State.SUBMITTING

    def test_leases_that_come_back_are_nobodys_and_no_token_is_given_again(self, opener: Opener, archive: Archive, tmp_path: Path) -> None:
        with closing(opener()) as store:
            before = store.acquire_lease("engine:aria2", "a", LONG_S)
            assert before
        parts, _ = dumped(archive, tmp_path / "s")
        with closing(archive.load(nothing)) as load:
            taken(load, parts)
            load.commit()
        with closing(opener()) as store:
            after = store.acquire_lease("engine:aria2", "b", LONG_S)
            assert after
            assert after.token > before.token

    def test_a_dump_made_while_others_write_holds_all_that_was_there_before_and_can_be_loaded(
        self, opener: Opener, archive: Archive, grown: None, tmp_path: Path
    ) -> None:
        written, stop = [], threading.Event()

        def write() -> None:
            with closing(opener()) as store:
                while not stop.is_set():
                    job = a_job(f"during {len(written)}")
                    store.insert([job])
                    change(store, job, admitted(job))
                    written.append(job.id)

        with closing(opener()) as store:
            before = {job.id for job in everything(store)[0]}
        writer = threading.Thread(target=write)
        writer.start()
        try:
            parts, tables = dumped(archive, tmp_path / "s")
        finally:
            stop.set()
            writer.join(60)
        assert written
        with closing(archive.load(nothing, apart=tmp_path / "apart")) as load:
            assert taken(load, parts) == tables
            with closing(load.open()) as scratch:
                found = {job.id for job in everything(scratch)[0]}
                assert before <= found <= before | set(written)
                newest = scratch.page(JobFilter(), 1).jobs
                job = a_job("next")
                scratch.insert([job])
                assert scratch.page(JobFilter(), 2).jobs == (job, *newest), "counters are not behind the jobs"

    def test_an_empty_store_is_dumped_and_loaded(self, opener: Opener, archive: Archive, tmp_path: Path) -> None:
        with closing(opener()):
            pass
        assert archive.documents() == 0
        parts, tables = dumped(archive, tmp_path / "s")
        with closing(archive.load(nothing)) as load:
            assert taken(load, parts) == tables
            load.commit()
        with closing(opener()) as store:
            assert store.counts() == {}
