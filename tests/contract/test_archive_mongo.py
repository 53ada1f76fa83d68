"""The archive of a MongoDB: the contract, every type and option a database may hold, and the layout of mongodump."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bson
import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from pymongo import MongoClient, errors
from pymongo.database import Database

from tests.contract.archive_suite import ArchiveSuite, dumped, nothing, taken
from tests.contract.store_jobs import some_jobs
from tests.contract.store_suite import Opener
from worker.ports import Archive
from worker.ports.dump import Overtaken
from worker.settings import SettingsError
from worker.store import open_archive, open_store
from worker.store.mongo import raw
from worker.store.mongo.load import _beside

ALL_TYPES: dict[str, Any] = {
    "double": 1.5,
    "infinite": float("inf"),
    "negative zero": -0.0,
    "string": "ü\U0001f3ac\x00",
    "empty": "",
    "object": {"a": {"$b": 1}, "": 2},
    "array": [1, [2, {"x": []}]],
    "binary": Binary(b"\x00\xff" * 9),
    "of a subtype": Binary(b"abc", 0x80),
    "uuid": Binary.from_uuid(uuid.UUID(int=7)),
    "id": ObjectId("0123456789abcdef01234567"),
    "true": True,
    "false": False,
    "date": datetime.datetime(2024, 2, 29, 1, 2, 3, 456000, tzinfo=datetime.UTC),
    "old date": DatetimeMS(-(2**45)),
    "null": None,
    "regex": Regex("^a.*b$", "im"),
    "code": Code("function() { return 1; }"),
    "int": 2**31 - 1,
    "long": Int64(2**63 - 1),
    "small long": Int64(1),
    "timestamp": Timestamp(4294967295, 7),
    "decimal": Decimal128("-1.234567890123456789012345678901234E+100"),
    "nan": Decimal128("NaN"),
    "min": MinKey(),
    "max": MaxKey(),
}


@pytest.fixture
def opener(mongo_url: str) -> Opener:
    return partial(open_store, mongo_url)


@pytest.fixture
def archive(mongo_url: str) -> Archive:
    return open_archive(mongo_url)


@pytest.fixture
def database(mongo_url: str) -> Iterator[Database[dict[str, Any]]]:
    name = urlsplit(mongo_url).path.strip("/")
    with MongoClient[dict[str, Any]](mongo_url) as client:
        yield client[name]
        client.drop_database(f"{name}_haul_drill")


class TestContract(ArchiveSuite):
    pass


def test_documents_of_every_type_come_back_byte_by_byte(archive: Archive, database: Database[Any], tmp_path: Path) -> None:
    rows = [{"_id": f"{name} {place}", "value": value, name or "x": [value]} for place, (name, value) in enumerate(ALL_TYPES.items())]
    ids = [value for value in ALL_TYPES.values() if not isinstance(value, list | Regex)]
    database.all.insert_many(rows)
    database.ids.insert_many([{"_id": value} for value in ids[:8]])
    before = [document.raw for document in database.get_collection("all", raw.raw_codec()).find(sort=[("_id", 1)])]
    parts, tables = dumped(archive, tmp_path)
    assert parts[f"records/{database.name}/all.bson"] == b"".join(before)
    assert (tables["all"].documents, tables["ids"].documents) == (len(rows), 8)
    database.all.delete_many({"_id": rows[0]["_id"]})
    with closing(archive.load(nothing)) as load:
        assert taken(load, parts) == tables
        load.commit()
    assert [document.raw for document in database.get_collection("all", raw.raw_codec()).find(sort=[("_id", 1)])] == before


def test_options_and_indexes_come_back_as_they_were(archive: Archive, database: Database[Any], tmp_path: Path) -> None:
    database.create_collection("capped", capped=True, size=100_000, max=5)
    database.create_collection("valid", validator={"a": {"$exists": True}}, validationLevel="moderate")
    database.capped.insert_many([{"_id": number} for number in (3, 1, 2)])
    database.valid.insert_one({"a": 1})
    database.valid.create_index([("a", 1), ("b", -1)], name="both", unique=True, sparse=True)
    database.valid.create_index("at", expireAfterSeconds=3600)
    database.valid.create_index("p", partialFilterExpression={"p": {"$exists": True}})
    database.empty.create_index("x")
    before = {name: (database[name].options(), database[name].index_information()) for name in ("capped", "valid", "empty")}
    parts, tables = dumped(archive, tmp_path)
    with closing(archive.load(nothing, apart=tmp_path)) as load:
        assert taken(load, parts) == tables
        beside = database.client[f"{database.name}_haul_drill"]
        assert {name: (beside[name].options(), beside[name].index_information()) for name in before} == before
        assert [row["_id"] for row in beside.capped.find()] == [3, 1, 2], "in the order of their insertion"
    with closing(archive.load(nothing)) as load:
        assert taken(load, parts) == tables
        load.commit()
    # SecantusDB forgets the options of a collection that is renamed; MongoDB does not.
    assert {name: database[name].index_information() for name in before} == {name: indexes for name, (_, indexes) in before.items()}


def test_the_parts_are_laid_out_as_mongodump_does(opener: Opener, archive: Archive, database: Database[Any], tmp_path: Path) -> None:
    with closing(opener()) as store:
        store.insert(some_jobs(3))
    database["a/b c"].insert_one({"x": 1})
    parts, _ = dumped(archive, tmp_path)
    jobs = f"records/{database.name}/jobs"
    assert {f"{jobs}.bson", f"{jobs}.metadata.json", f"records/{database.name}/a%2Fb%20c.bson"} <= parts.keys()
    assert list(parts)[-1] == f"records/{database.name}/counters.bson"
    assert [row["_id"] for row in bson.decode_all(parts[f"{jobs}.bson"])] == sorted(job.id for job in some_jobs(3))
    metadata = json.loads(parts[f"{jobs}.metadata.json"])
    assert {"options", "indexes", "collectionName"} <= metadata.keys()
    assert metadata["indexes"][0].keys() == {"v", "key", "name"}
    assert re.search(r'"\$number(Int|Long)": "1"', parts[f"{jobs}.metadata.json"].decode()), "canonical extended JSON"
    assert json_util.loads(parts[f"{jobs}.metadata.json"])["collectionName"] == "jobs"


def test_a_server_that_does_not_keep_the_moment_is_not_asked_for_it_again(
    archive: Archive, opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opener()) as store:
        store.insert(some_jobs(3))
    gone = errors.OperationFailure("snapshot too old", 239)
    monkeypatch.setattr("worker.store.mongo.dump.MongoDump._snapshot", lambda dump: dump._calls.database.client.start_session())
    real = raw.cast
    monkeypatch.setattr(raw, "cast", lambda kind, value: (_ for _ in ()).throw(gone))
    with pytest.raises(Overtaken):
        dumped(archive, tmp_path)
    monkeypatch.setattr(raw, "cast", real)
    with closing(archive.dump(tmp_path, nothing)) as dump:
        assert not dump.consistent


@pytest.mark.parametrize(
    ("url", "beside"),
    [
        ("mongodb://h/haul", "mongodb://h/x"),
        ("mongodb://h", "mongodb://h/x"),
        ("mongodb://u:p@h/haul?w=1", "mongodb://u:p@h/x?w=1&authSource=haul"),
        ("mongodb://u:p@h/haul?authSource=admin", "mongodb://u:p@h/x?authSource=admin"),
    ],
)
def test_the_user_of_the_database_is_known_beside_it(url: str, beside: str) -> None:
    assert _beside(url, "x", "haul") == beside


def test_a_database_that_is_half_restored_is_not_opened_and_the_next_restore_makes_it_whole(
    archive: Archive, opener: Opener, mongo_url: str, tmp_path: Path, database: Database[Any]
) -> None:
    with closing(opener()) as store:
        store.insert(some_jobs(3))
    parts, tables = dumped(archive, tmp_path)
    for name in database.list_collection_names():
        database.drop_collection(name)
    dead = archive.load(nothing)
    taken(dead, {name: content for name, content in parts.items() if "counters" not in name})
    with pytest.raises(SettingsError, match="is half restored; restore it again"):
        opener()
    assert archive.documents() == 0
    with closing(archive.load(nothing)) as load:
        assert taken(load, parts) == tables
        load.commit()
    with closing(opener()) as store:
        assert sum(store.counts().values()) == 3
    dead._about = {}  # type: ignore[attr-defined] - it is dead, and removes nothing
    dead.close()
