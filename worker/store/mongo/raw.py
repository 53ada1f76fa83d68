"""Collections of a MongoDB as bytes: read and cut without taking documents apart, and named in files as mongodump does."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote, unquote

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.cursor import RawBatchCursor
from pymongo.errors import OperationFailure, PyMongoError

from worker.ports import Hopeless
from worker.ports.dump import Overtaken
from worker.store.mongo.calls import BATCH_S, MongoCalls
from worker.store.mongo.connection import RESTORING
from worker.store.mongo.documents import Document
from worker.store.mongo.queries import COUNTERS, JOBS, TORRENTS

RECORDS = "records"
BSON, METADATA = ".bson", ".metadata.json"
#: Jobs before the torrents that they name; the counters last, or numbers would be given twice.
FIRST, LAST = (JOBS, TORRENTS), (COUNTERS,)
#: Before the names of collections that are loaded and not yet in place.
STAGED = f"{RESTORING}."
#: Documents a read, and bytes a write, so that either takes seconds even on a server that is slow or busy; a document has 16 MB at most.
READ_DOCUMENTS, WRITE_BYTES = 500, 1024 * 1024
#: A moment that the server does not keep any more.
SNAPSHOT_GONE = (239, 246)

#: How a document begins: its length.
_LENGTH, _LENGTH_BYTES = "<i", 4


class Torn(Hopeless):
    """The reading of a collection has to begin again."""


def raw_codec() -> CodecOptions[RawBSONDocument]:
    """Documents are bytes; of their ids, times are as they are, whatever year they are in."""
    return CodecOptions(document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS)


class Cursor:
    """Reads a collection to its end; where its cursor dies, or is lost with the connection, a new one goes on behind what was read."""

    def __init__(self, calls: MongoCalls, name: str, about: Mapping[str, Any], session: ClientSession | None) -> None:
        self._calls, self._name, self._session = calls, name, session
        self._capped = bool(about.get("options", {}).get("capped"))
        self._cursor: RawBatchCursor[Document] | None = None
        self._last: Any = None
        self._begun = False

    def batches(self) -> Iterator[tuple[bytes, int]]:
        """The documents as they lie in the server, some hundred at once, and how many.

        Raises:
            Torn: of a capped collection, whose order no id tells.
        """
        try:
            while batch := self._calls.ask(self._step, BATCH_S if self._cursor else None):
                count, last = counted(batch)
                self._last, self._begun = bson.decode(batch[last:], raw_codec())["_id"], True
                yield batch, count
        finally:
            self._forget()

    def _step(self) -> bytes:
        cursor = self._cursor or self._opened()
        self._cursor = None  # one that broke, asked again, would say that there is no more
        try:
            batch = cast(bytes, next(cursor, b""))
        except OperationFailure as error:
            if self._session is not None and error.code in SNAPSHOT_GONE:
                words = f"MongoDB database {self._calls.name!r}: the server no longer keeps the moment of the backup"
                raise Overtaken("store", words) from None
            raise
        self._cursor = cursor
        return batch

    def _opened(self) -> RawBatchCursor[Document]:
        if self._begun and self._capped:
            words = f"MongoDB database {self._calls.name!r}: the connection broke in the middle of the capped collection {self._name!r}"
            raise Torn("store", f"{words}, which can only be read at once")
        # As an expression it compares ids of different types, too, in the order in which they are sorted.
        where: Document = {"$expr": {"$gt": ["$_id", {"$literal": self._last}]}} if self._begun else {}
        order = [("$natural", 1)] if self._capped else [("_id", 1)]
        rows = self._calls.database[self._name]
        return rows.find_raw_batches(where, sort=order, batch_size=READ_DOCUMENTS, session=self._session)

    def _forget(self) -> None:
        if self._cursor is not None:
            with contextlib.suppress(PyMongoError):  # the server ends it by itself
                self._cursor.close()


def counted(batch: bytes) -> tuple[int, int]:
    """How many documents these bytes are, and where the last one begins."""
    count = at = last = 0
    while at < len(batch):
        last, count = at, count + 1
        at += struct.unpack_from(_LENGTH, batch, at)[0]
    return count, last


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


def definition_of(calls: MongoCalls, name: str, about: Mapping[str, Any], shown: str | None = None) -> str:
    """Options and indexes as mongodump writes them, in an order of ours, without what is of one server."""
    indexes: list[Any] = []
    if about.get("type") != "view":
        found = calls.ask(lambda: list(calls.database[name].list_indexes()))
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
