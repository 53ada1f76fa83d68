"""A MongoDB archive whose every kind of call breaks, and what has to come of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient

from tests.contract.archive_suite import dumped, nothing, taken
from tests.contract.store_jobs import NOW, some_jobs
from tests.integration.grown import everything
from tests.mongo_faults import faulty_mongo
from tests.mongo_proxy import through
from worker.patience import Patience
from worker.ports import Run
from worker.store import open_archive, open_store
from worker.store.mongo import calls, raw

JOBS = 40
#: Ids of every kind that has an order, and of numbers of every kind.
IDS: list[Any] = [1, 2.5, 7, "a", "b", {"a": 1}, {"a": 2}, b"\x00\x01", True, None]
OPTIONS = "retryWrites=false&retryReads=false&serverSelectionTimeoutMS=5000"


def fill(url: str) -> None:
    """Records of several collections, one of them of somebody else's, in several batches each."""
    with closing(open_store(url)) as store:
        jobs = some_jobs(JOBS)
        store.insert(jobs)
        store.keep_torrent(b"a torrent")
        store.keep_runs([Run("backup", f"{slot}", "host", NOW, NOW + slot, True, {"slot": slot}) for slot in range(JOBS)])
        store.set_limits({"user:ann": {"queued": 3}})
        assert store.acquire_lease("engine:aria2", "a", 60)
    with MongoClient[dict[str, Any]](url) as client:
        client.get_default_database().theirs.insert_many([{"_id": id, "n": place} for place, id in enumerate(IDS)])


def hasten(patch: pytest.MonkeyPatch, answer_s: float | None = None) -> None:
    """Small batches and short pauses; and short time-outs, where nothing else shows that a connection is dead."""
    patch.setattr(raw, "READ_DOCUMENTS", 7)
    patch.setattr(raw, "WRITE_BYTES", 8_000)
    patch.setattr("worker.patience.PAUSE_S", 0.01)
    patch.setattr("worker.patience.PAUSE_S_MAX", 0.5)
    if answer_s is not None:
        patch.setattr(calls, "ANSWER_S", answer_s)
        patch.setattr("worker.store.mongo.load.BATCH_S", answer_s)
        patch.setattr("worker.store.mongo.load.WHOLE_S", 5 * answer_s)
        patch.setattr(raw, "BATCH_S", answer_s)


def comes_through(url: str, directory: Path, work: str, how: str, times: int) -> set[str]:
    """Do this work while every kind of call breaks, and check what comes of it; the commands that were broken.

    Args:
        work: `dump`, `empty` (a restore to nothing), `over` (to other records), `some` (one collection), `apart` (a trial).
    """
    fill(url)
    archive = open_archive(url)
    (parts, tables), before = dumped(archive, directory / "s"), None
    with closing(open_store(url)) as store:
        before = everything(store)
    told: list[str] = []
    options = f"{OPTIONS}&timeoutMS=3000" if how == "nothing comes back" else OPTIONS
    with faulty_mongo(urlsplit(url).netloc, how, times) as proxy:
        far = open_archive(through(url, proxy, options))
        if work == "dump":
            (directory / "t").mkdir()
            with closing(far.dump(directory / "t", nothing, told.append)) as dump:
                again = {name: b"".join(chunks) for name, chunks in dump.parts()}
                assert (again, {table.name: table for table in dump.tables()}) == (parts, tables)
        else:
            change(url, work)
            only, apart = ["runs"] if work == "some" else [], directory / "apart" if work == "apart" else None
            with closing(far.load(nothing, only=only, apart=apart, wait=told.append)) as load:
                found = taken(load, parts)
                assert found == {name: table for name, table in tables.items() if not only or name in only}
                if apart:
                    with closing(load.open()) as scratch:
                        assert Patience(told.append).tried(lambda: everything(scratch)) == before
                else:
                    load.commit()
        broken = {command for command, _ in proxy.broken}
        assert sum(proxy.broken.values()) > times * len(broken) / 2
    with closing(open_store(url)) as store:
        assert everything(store)[1] == before[1]
        assert everything(store) == before or work == "some"
    left = dumped(archive, directory / "u")[1]
    assert {name: table.definition for name, table in left.items()} == {name: table.definition for name, table in tables.items()}
    with MongoClient[dict[str, Any]](url) as client:
        own = client.get_default_database()
        assert not [name for name in own.list_collection_names() if name.startswith("haul_restoring")]
        assert client[f"{own.name}_haul_drill"].list_collection_names() == []
    assert any("trying again" in words for words in told)
    return broken


def change(url: str, work: str) -> None:
    """What the restore has to replace, or to bring back."""
    with MongoClient[dict[str, Any]](url) as client:
        own = client.get_default_database()
        if work == "empty":
            client.drop_database(own.name)
        elif work in ("over", "some"):
            own.runs.delete_many({"slot": {"$in": ["3", "4"]}})
            own.runs.insert_one({"_id": "new"})
        if work == "over":
            own.jobs.delete_many({})
