"""Collections of a MongoDB as bytes: read and cut without taking documents apart, and named in files as mongodump does."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote

import pymongo
from bson import json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from worker.jobs.errors import Rejected
from worker.ports.dump import Overtaken
from worker.store.mongo.connection import RESTORING, MongoConnection
from worker.store.mongo.queries import COUNTERS, JOBS, TORRENTS

T = TypeVar("T")

RECORDS = "records"
BSON, METADATA = ".bson", ".metadata.json"
#: Jobs before the torrents that they name; the counters last, or numbers would be given twice.
FIRST, LAST = (JOBS, TORRENTS), (COUNTERS,)
#: Before the names of collections that are loaded and not yet in place.
STAGED = f"{RESTORING}."
#: Documents a read, and bytes a write; a document has 16 MB at most.
READ_DOCUMENTS, WRITE_BYTES = 500, 4 * 1024 * 1024
#: One answer of the server, which may have to sort or to build an index.
ANSWER_S = 300.0
UNAUTHORIZED = 13
#: A moment that the server does not keep any more.
SNAPSHOT_GONE = (239, 246)

#: How a document begins: its length.
_LENGTH, _LENGTH_BYTES = "<i", 4


def raw_codec() -> CodecOptions[RawBSONDocument]:
    """Documents are bytes."""
    return CodecOptions(document_class=RawBSONDocument)


def asked(connection: MongoConnection, once: Callable[[], T]) -> T:
    """One call to the server, which may take long."""

    def patiently() -> T:
        with pymongo.timeout(ANSWER_S):
            try:
                return once()
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and error.code == UNAUTHORIZED:
                    words = f"the user may not work on the database {connection.name!r}"
                    raise Rejected("store", words, fix="give it the role readWrite there") from None
                raise

    return connection.call(patiently)


def batches(connection: MongoConnection, name: str, about: Mapping[str, Any], session: ClientSession | None) -> Iterator[bytes]:
    """The documents as they lie in the server, some hundred at once."""
    order = [("$natural", 1)] if about.get("options", {}).get("capped") else [("_id", 1)]
    cursor = connection.database[name].find_raw_batches({}, sort=order, batch_size=READ_DOCUMENTS, session=session)
    broken = False

    def step() -> bytes:
        nonlocal broken
        if broken:  # asked again it would say that there is no more
            raise AutoReconnect("the cursor is gone")
        broken = True
        try:
            batch = cast(bytes, next(cursor, b""))
        except OperationFailure as error:
            if session is not None and error.code in SNAPSHOT_GONE:
                raise Overtaken(
                    "store", f"MongoDB database {connection.name!r}: the server no longer keeps the moment of the backup"
                ) from None
            raise
        broken = False
        return batch

    try:
        while batch := asked(connection, step):
            yield batch
    finally:
        cursor.close()


def counted(batch: bytes) -> int:
    """How many documents these bytes are."""
    count = at = 0
    while at < len(batch):
        at += struct.unpack_from(_LENGTH, batch, at)[0]
        count += 1
    return count


def rows_of(chunks: Iterator[bytes]) -> Iterator[list[RawBSONDocument]]:
    """The documents of a stream, so many at once as are written at once."""
    rest, rows, size = b"", [], 0
    codec = raw_codec()
    for chunk in chunks:
        rest += chunk
        at = 0
        while len(rest) - at >= _LENGTH_BYTES and len(rest) - at >= (length := struct.unpack_from(_LENGTH, rest, at)[0]):
            rows.append(RawBSONDocument(rest[at : at + length], codec))
            at, size = at + length, size + length
            if size >= WRITE_BYTES:
                yield rows
                rows, size = [], 0
        rest = rest[at:]
    if rows:
        yield rows


def definition_of(connection: MongoConnection, name: str, about: Mapping[str, Any], shown: str | None = None) -> str:
    """Options and indexes as mongodump writes them, in an order of ours, without what is of one server."""
    indexes: list[Any] = []
    if about.get("type") != "view":
        found = asked(connection, lambda: list(connection.database[name].list_indexes()))
        indexes = sorted(({key: value for key, value in index.items() if key != "ns"} for index in found), key=lambda index: index["name"])
    text = {
        "options": about.get("options", {}),
        "indexes": indexes,
        "collectionName": shown or name,
        "type": about.get("type", "collection"),
    }
    return json_util.dumps(text, json_options=json_util.CANONICAL_JSON_OPTIONS)


def path_of(database: str, collection: str, suffix: str) -> str:
    """The name of a part. As in mongodump's, names of databases stand as they are: mongorestore takes those of directories for them."""
    return f"{RECORDS}/{database}/{_escaped(collection)}{suffix}"


def _escaped(name: str) -> str:
    """As mongodump escapes names of collections in those of files."""
    return quote(name, safe="$&+=:@")


def collection_of(part: str) -> str:
    """The collection that a part is of."""
    return unquote(part.rpartition("/")[2].removesuffix(METADATA).removesuffix(BSON))


def order_of(name: str) -> tuple[int, str]:
    """Sorts collections into the order in which they are read."""
    return (FIRST.index(name) - len(FIRST) if name in FIRST else 1 if name in LAST else 0, name)
