"""Writes that are put together, and what fails in the middle of them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, a_job, until
from tests.faults.catalogue import fault
from tests.mongo_proxy import mongo_proxy
from tests.mongodb import MongoServer, mongo_server
from worker.jobs.errors import Transient
from worker.jobs.model import Job
from worker.metrics import Metrics
from worker.ports import Change, JobStore
from worker.store import open_store
from worker.store.batching import BatchingStore

WRITERS = 8
#: Writes that are acknowledged between two kills, at least.
BETWEEN = 10
LARGE, LARGE_BYTES = 7, 9_000_000
WAIT_S = 60.0


class Writers:
    """Threads that record jobs and change them, and know what was acknowledged to them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._over = threading.Event()
        self.known: list[dict[str, Job]] = [{} for _ in range(WRITERS)]
        self.acknowledged = [0] * WRITERS
        self.surprises: list[str] = []
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def _write(self, number: int) -> None:
        known, turn = self.known[number], 0
        while not self._over.is_set():
            turn += 1
            job = a_job(f"{number}:{turn}")
            shared = a_job(f"shared {turn}")
            try:
                inserted = self._store.insert([job, shared])
                if not inserted[0].created:
                    self.surprises.append(f"{job.key} is mine alone and was said to be another's")
                known[job.id] = inserted[0].job
                self.acknowledged[number] += 1
                new = job.noted(NOW, "changed")
                [applied] = self._store.apply([Change(job, new)])
                if not applied.won:
                    self.surprises.append(f"{job.key} was changed by me alone and is said to have lost")
                known[job.id] = new
                self.acknowledged[number] += 1
            except Transient:
                self._over.wait(0.02)


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[MongoServer]:
    """A MongoDB that the test may break."""
    with mongo_server(tmp_path / "mongodb") as server:
        yield server


@fault(
    "MongoDB dies in the middle of batches, again and again",
    provoked="`kill -9` of the server, 3 times or as often as `HAUL_TEST_KILLS` says (200 for the whole proof), while eight threads record"
    " jobs of their own, one they all want, and change theirs",
    holds="what a thread was told is recorded is there, in that version or the next; nobody is told that another has his job; of the one"
    " that all want there is one",
)
@pytest.mark.timeout(3_600)
def test_what_was_acknowledged_is_there_however_often_the_store_dies(mongo: MongoServer) -> None:
    url = f"mongodb://{mongo.address}/haul?timeoutMS=5000&serverMonitoringMode=poll"
    with closing(BatchingStore(open_store(url), Metrics())) as store:
        writers = Writers(store)
        writers.start()
        try:
            for _ in range(int(os.environ.get("HAUL_TEST_KILLS", "3"))):
                before = sum(writers.acknowledged)
                until(lambda: sum(writers.acknowledged) >= before + BETWEEN, WAIT_S)  # noqa: B023
                mongo.kill()
                mongo.start()
        finally:
            writers.stop()
        assert writers.surprises == []
        for known in writers.known:
            found = store.get(known)
            assert found.keys() == known.keys(), "an acknowledged job is gone"
            for id, job in known.items():
                assert found[id].version in (job.version, job.version + 1), "an acknowledged change is gone"
    print(f"{sum(writers.acknowledged)} writes were acknowledged")


@fault(
    "A caller gives the store more at once than MongoDB takes in one message",
    provoked="seven jobs of 9 MB each are recorded in one call, then changed in one call; a proxy looks at the messages",
    holds="the caller has his seven answers and the records are so; no message is larger than the 48 MB that a server takes",
)
def test_more_than_one_message_takes_goes_out_in_several(mongo: MongoServer) -> None:
    jobs = [replace(a_job(f"{n}"), message="x" * LARGE_BYTES) for n in range(LARGE)]
    with mongo_proxy(mongo.address) as proxy:
        url = f"mongodb://{proxy.address}/haul?serverMonitoringMode=poll&timeoutMS=60000"
        with closing(BatchingStore(open_store(url), Metrics())) as store:
            assert all(answer.created for answer in store.insert(jobs))
            changes = [Change(job, job.noted(NOW, "changed", message="y" * LARGE_BYTES)) for job in jobs]
            assert all(answer.won for answer in store.apply(changes))
            assert store.get(job.id for job in jobs) == {change.new.id: change.new for change in changes}
    assert LARGE_BYTES < proxy.largest <= 48_000_000 < LARGE * LARGE_BYTES


@fault(
    "A process that writes to an SQLite store is killed in the middle of batches, again and again",
    provoked="`kill -9` of it, 3 times or as often as `HAUL_TEST_KILLS` says (200 for the whole proof), while eight of its"
    " threads record jobs and change them",
    holds="what a thread was told is recorded is there, in that version or the next; the database is whole",
)
@pytest.mark.timeout(3_600)
def test_what_a_killed_process_was_told_is_recorded_is_there(tmp_path: Path) -> None:
    path, known = tmp_path / "haul.db", dict[str, int]()
    for number in range(int(os.environ.get("HAUL_TEST_KILLS", "3"))):
        command = [sys.executable, "-m", "tests.faults.writer", str(path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            begun = len(known)
            for line in process.stdout:
                key, _, version = line.partition(" ")
                known[key] = int(version)
                if len(known) == begun + BETWEEN + number % 7:
                    process.kill()
        assert len(known) >= begun + BETWEEN
    assert -1 not in known.values(), "nobody else writes these"
    with closing(open_store(f"sqlite:///{path}")) as store:
        found = store.get(a_job(key).id for key in known)
        assert {job.key for job in found.values()} == known.keys(), "an acknowledged job is gone"
        late = [job.key for job in found.values() if job.version not in (known[job.key], known[job.key] + 1)]
        assert not late, "an acknowledged change is gone"
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    print(f"of {len(known)} jobs something was acknowledged")


def batch_of(first: int) -> list[Job]:
    """Twenty jobs that take some room."""
    return [replace(a_job(f"{n}"), message="m" * 2_000) for n in range(first, first + 20)]


def fill(store: JobStore, known: list[Job]) -> None:
    """Record jobs, and note those that are acknowledged, until the store takes no more."""
    for _ in range(1_000):
        batch = batch_of(len(known))
        store.insert(batch)
        known += batch


@fault(
    "The disk under an SQLite store is full",
    provoked="a file system of 2 MB in memory is filled up while jobs are recorded one by one and in batches",
    holds="callers are told that the disk is full; what was acknowledged is there, and nothing of what was not; it goes on once there is"
    " room",
)
def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "haul-test", str(small)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with closing(BatchingStore(open_store(f"sqlite:///{small}/haul.db"), Metrics())) as store:
            ballast = small / "ballast"
            known: list[Job] = []
            ballast.write_bytes(b"x" * 400_000)
            with pytest.raises(Transient, match="the disk is full"):
                fill(store, known)
            assert known
            refused = batch_of(len(known))
            assert store.get(job.id for job in known) == {job.id: job for job in known}
            assert not store.get(job.id for job in refused)
            ballast.unlink()
            assert all(answer.created for answer in store.insert(refused))
    finally:
        subprocess.run(["umount", str(small)], check=False, capture_output=True)
