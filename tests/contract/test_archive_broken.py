"""Connections that break, servers that are busy, and answers that never come, in the middle of a dump and of a load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.contract.archive_suite import dumped, nothing, taken
from tests.contract.broken_archive import comes_through, fill, hasten
from tests.mongo_faults import faulty_mongo
from tests.mongo_proxy import through
from worker.jobs.errors import Failed, Transient
from worker.ports import Hopeless
from worker.store import open_archive
from worker.store.mongo.raw import STAGED

READS = {"listCollections", "dbStats", "listIndexes", "find", "getMore"}
WRITES = {"create", "createIndexes", "insert", "drop", "update", "renameCollection"}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture
def database(mongo_url: str) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        yield client.get_default_database()


def test_a_dump_whose_every_kind_of_call_is_cut_off_is_the_same(mongo_url: str, tmp_path: Path) -> None:
    assert comes_through(mongo_url, tmp_path, "dump", "the answer breaks off in the middle", 3) >= READS


def test_a_restore_of_some_whose_every_kind_of_call_loses_its_answer_is_the_same(mongo_url: str, tmp_path: Path) -> None:
    assert comes_through(mongo_url, tmp_path, "some", "the answer is lost", 3) >= {*READS - {"dbStats"}, *WRITES}


def test_another_document_in_the_place_of_one_whose_writing_is_in_doubt_is_named_and_nothing_is_changed(
    mongo_url: str, database: Database[Any], tmp_path: Path
) -> None:
    fill(mongo_url)
    archive = open_archive(mongo_url)
    parts, tables = dumped(archive, tmp_path / "s")
    first = database.jobs.find_one(sort=[("_id", 1)])
    with closing(archive.load(nothing, only=["jobs"])) as load:
        staged = f"records/{database.name}/jobs"
        load.take(f"{staged}.metadata.json", iter([parts[f"{staged}.metadata.json"]]))
        database[f"{STAGED}jobs"].insert_one({"_id": first["_id"], "mine": True})
        with pytest.raises(Failed, match=f"another document in the place of '{first['_id']}'"):
            load.take(f"{staged}.bson", iter([parts[f"{staged}.bson"]]))
    assert dumped(archive, tmp_path / "s")[1] == tables


def test_what_breaks_a_rule_of_an_index_is_named_too(mongo_url: str, database: Database[Any], tmp_path: Path) -> None:
    fill(mongo_url)
    archive = open_archive(mongo_url)
    parts, _ = dumped(archive, tmp_path / "s")
    run = database.runs.find_one(sort=[("_id", 1)])
    with closing(archive.load(nothing, only=["runs"])) as load:
        staged = f"records/{database.name}/runs"
        load.take(f"{staged}.metadata.json", iter([parts[f"{staged}.metadata.json"]]))
        database[f"{STAGED}runs"].insert_one({**run, "_id": "another"})
        with pytest.raises(Failed, match=f"another document in the place of .*{run['_id']}"):
            load.take(f"{staged}.bson", iter([parts[f"{staged}.bson"]]))


def test_a_server_that_stays_away_ends_a_restore_in_words_and_nothing_is_changed(
    mongo_url: str, database: Database[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(mongo_url)
    archive, told = open_archive(mongo_url), []
    parts, tables = dumped(archive, tmp_path / "s")
    monkeypatch.setattr("worker.patience.PATIENCE_S", 0.5)
    server = urlsplit(mongo_url).netloc
    with faulty_mongo(server, "the primary steps down", 10_000, frozenset({"insert"})) as proxy:
        far = open_archive(through(mongo_url, proxy, "retryWrites=false"))
        with closing(far.load(nothing, wait=told.append)) as load, pytest.raises(Transient, match="tried again for") as ended:
            taken(load, parts)
    assert not isinstance(ended.value, Hopeless)
    assert told
    assert dumped(archive, tmp_path / "s")[1] == tables


def test_what_a_server_refuses_for_good_is_not_tried_again(mongo_url: str, database: Database[Any], tmp_path: Path) -> None:
    fill(mongo_url)
    archive = open_archive(mongo_url)
    parts, _ = dumped(archive, tmp_path / "s")
    begun = time.monotonic()
    with closing(archive.load(nothing, only=["runs"])) as load:
        staged = f"records/{database.name}/runs.metadata.json"
        with pytest.raises(Hopeless, match="the server refused it"):
            load.take(staged, iter([parts[staged].replace(b'"runs_newest"', b'"runs_once"')]))
    assert time.monotonic() - begun < 60
