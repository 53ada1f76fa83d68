"""Backup and restore beside the same documents read and written raw, in one run; memory; and how long a million jobs would take.

HAUL_TEST_BACKUP_JOBS=100000            in SQLite
HAUL_TEST_BACKUP_MONGODB_JOBS=10000     in the MongoDB of the tests, which builds its indexes ten times as slowly
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from tests.contract.store_jobs import a_job
from tests.integration.grown import _job
from tests.mongodb import mongo_server
from worker.failpoints import Failpoints
from worker.maintenance.backup.catalogue import Shelf
from worker.maintenance.backup.create import create
from worker.maintenance.backup.drill import drill
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.place import Place
from worker.maintenance.backup.restore import restore
from worker.notation.keep import Keep
from worker.settings import load
from worker.store import open_archive, open_store
from worker.store.mongo.queries import INDEXES

#: How many jobs.
JOBS = {
    "sqlite": int(os.environ.get("HAUL_TEST_BACKUP_JOBS", "100000")),
    "mongodb": int(os.environ.get("HAUL_TEST_BACKUP_MONGODB_JOBS", "10000")),
}
MILLION = 1_000_000
MIB = 1024 * 1024
BATCH = 1000


def backup(directory: Path, rounds: int) -> dict[str, Any]:
    """Ratios of raw time to ours, 1 being as fast and 0.5 half as fast; both stores."""
    path = directory / "haul.db"
    figures = _of_store(f"sqlite:///{path}", f"sqlite:///{directory}/again/haul.db", directory / "s", rounds, "sqlite")
    with mongo_server(directory / "mongodb") as server:
        options = "timeoutMS=600000"
        url = f"mongodb://{server.address}/bench?{options}"
        figures |= _of_store(url, f"mongodb://{server.address}/again?{options}", directory / "m", rounds, "mongodb")
    return figures | {"limit_ratio": 0.5, "limit_memory_mib": 150, "limit_million_restored_s": 1800}


def _of_store(url: str, other: str, directory: Path, rounds: int, kind: str) -> dict[str, Any]:
    directory.mkdir()
    count = JOBS[kind]
    _timed(f"{kind}: filling a store with {count} jobs", lambda: _fill(url, count))
    read, written, made, restored = [], [], [], []
    raw: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
        "sqlite": (_read_sqlite, _write_sqlite),
        "mongodb": (_read_mongo, _write_mongo),
    }
    settings = load(data_dir=directory)
    place = Place(Shelf(directory / "backups"), None, Key(b"k" * 32), Keep(), "UTC", 0)
    place.shelf.directory.mkdir()
    for number in range(rounds):
        title = f"{kind}, round {number + 1} of {rounds}"
        read.append(_timed(f"{title}: reading raw", lambda: raw[kind][0](url, directory / "raw")))
        made.append(_timed(f"{title}: a backup", lambda: create(settings, open_archive(url), place, Pace(), Failpoints(""))))
        written.append(_timed(f"{title}: writing raw", lambda number=number: raw[kind][1](url, directory / f"raw{number}")))
        if kind == "mongodb":
            _timed(f"{title}: removing what was written raw", partial(_drop_raw, url, f"raw{number}"))
        entry = place.shelf.find("latest")
        _forget(other)
        put_back = partial(restore, entry.path, place.key, open_archive(other), Pace(), Failpoints(""))
        restored.append(_timed(f"{title}: a restore", put_back))
    entry = place.shelf.find("latest")
    assert entry.manifest is not None
    memory = {}
    for what in ("create", "drill"):
        _timed(f"{kind}: memory of {what}", lambda what=what: memory.update({what: _peak(what, url, entry.path)}))
    seconds = median(restored)
    return {
        f"{kind}_jobs": count,
        f"{kind}_plain_mib": round(entry.manifest.size / MIB),
        f"{kind}_stored_mib": round(entry.manifest.stored_size / MIB),
        f"{kind}_raw_read_s": median(read),
        f"{kind}_backup_s": median(made),
        f"{kind}_backup_ratio": median(read) / median(made),
        f"{kind}_raw_write_s": median(written),
        f"{kind}_restore_s": seconds,
        f"{kind}_restore_ratio": median(written) / seconds,
        f"{kind}_both_ratio": (median(read) + median(written)) / (median(made) + seconds),
        f"{kind}_million_restored_s": seconds * MILLION / count,
        f"{kind}_memory_over_idle_mib": memory,
    }


def _fill(url: str, count: int) -> None:
    with closing(open_store(url)) as store:
        names = [store.keep_torrent(bytes([number]) * 20_000) for number in range(16)]
        if url.startswith("sqlite"):
            for start in range(0, count, BATCH):
                store.insert([_job(number, names) for number in range(start, min(count, start + BATCH)) if number != 3])
            return
        store.insert([_job(number, names) for number in range(400) if number != 3])
        store.insert([a_job("x")])
    with MongoClient[dict[str, Any]](url) as client:
        jobs = client.get_default_database().jobs
        patterns = list(jobs.find())
        for start in range(len(patterns), count, BATCH):
            rows = range(start, min(count, start + BATCH))
            jobs.insert_many(
                [{**patterns[n % len(patterns)], "_id": f"{n:024x}", "seq": n + 1, "changed": n + 1} for n in rows], ordered=False
            )
        client.get_default_database().counters.update_one({"_id": "jobs"}, {"$set": {"n": count}})


def _read_sqlite(url: str, target: Path) -> None:
    with closing(sqlite3.connect(urlsplit(url).path)) as source, target.open("wb") as file:
        for row in _tables(source):
            for line in source.execute(f"SELECT * FROM {row}"):
                file.write(repr(line).encode())
        os.fsync(file.fileno())


def _write_sqlite(url: str, target: Path) -> None:
    """Into tables with their indexes, which is what a store has to have."""
    with closing(open_store(f"sqlite:///{target}")):
        pass
    with closing(sqlite3.connect(urlsplit(url).path)) as source, closing(sqlite3.connect(target, isolation_level=None)) as written:
        for table in _tables(source):
            rows = source.execute(f"SELECT * FROM {table}")
            marks = ",".join("?" * len(rows.description))
            while some := rows.fetchmany(BATCH):
                written.execute("BEGIN")
                written.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", some)
                written.execute("COMMIT")


def _tables(source: sqlite3.Connection) -> Iterator[str]:
    rows = source.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall()
    return (name for (name,) in rows)


def _read_mongo(url: str, target: Path) -> None:
    with MongoClient[dict[str, Any]](url) as client, target.open("wb") as file:
        database = client.get_default_database()
        for name in database.list_collection_names():
            for batch in database[name].find_raw_batches(batch_size=500):
                file.write(batch)
        os.fsync(file.fileno())


def _write_mongo(url: str, target: Path) -> None:
    """The file that was read, into a collection with the indexes of jobs."""
    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        jobs = client["raw"].get_collection(target.name)
        jobs.create_indexes(list(INDEXES["jobs"]))
        rows = []
        for document in bson.decode_file_iter((target.parent / "raw").open("rb"), _raw()):
            rows.append(document)
            if len(rows) == 4 * BATCH:
                jobs.insert_many(rows, ordered=False)
                rows = []
        jobs.insert_many(rows, ordered=False)
        assert jobs.estimated_document_count() >= database.jobs.estimated_document_count()


def _drop_raw(url: str, name: str) -> None:
    """SecantusDB takes longer to remove a collection than to write it."""
    with MongoClient[dict[str, Any]](url) as client:
        client["raw"][name].drop()


def _raw() -> Any:
    return bson.CodecOptions(document_class=RawBSONDocument)


def _forget(url: str) -> None:
    if url.startswith("mongodb"):
        with MongoClient[dict[str, Any]](url) as client:
            client.drop_database(client.get_default_database().name)
    else:
        for path in Path(urlsplit(url).path).parent.glob("haul.db*"):
            path.unlink()


def _timed(title: str, work: Callable[[], object]) -> float:
    print(f"backup: {title}", end=" … ", file=sys.stderr, flush=True)
    begun = time.monotonic()
    work()
    took = time.monotonic() - begun
    print(f"{took:.1f} s", file=sys.stderr, flush=True)
    return took


def _peak(what: str, url: str, entry: Path) -> float:
    """MiB that a process of its own took at most over what it had before it began."""
    ran = subprocess.run([sys.executable, "-m", "tests.bench.backup", what, url, str(entry)], stdout=subprocess.PIPE, text=True, check=True)
    return round(json.loads(ran.stdout)["over_idle_mib"], 1)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def main(what: str, url: str, entry: str) -> None:
    """Make a backup, or try one, in this process, and say what memory it took."""
    path = Path(entry)
    shelf = Shelf(path.parent)
    place = Place(shelf, None, Key(b"k" * 32), Keep(), "UTC", 0)
    archive = open_archive(url)
    archive.documents()  # drivers are loaded
    Path("/proc/self/clear_refs").write_text("5")
    idle = _resident("VmRSS")
    if what == "create":
        create(load(data_dir=path.parent.parent), archive, place, Pace(), Failpoints(""))
    else:
        drill(shelf.find(path.name), shelf, place.key, archive, Pace(), Failpoints(""))
    print(json.dumps({"over_idle_mib": (_resident("VmHWM") - idle) / MIB}))


if __name__ == "__main__":
    main(*sys.argv[1:])
