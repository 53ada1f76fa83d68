"""One collection of a MongoDB database: what the store asks of it, one call to the server each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from pymongo import DeleteMany, ReturnDocument, UpdateOne

from worker.store.mongo.connection import MongoConnection, add
from worker.store.mongo.documents import Document
from worker.store.mongo.queries import Order, Pipeline, of_ids

T = TypeVar("T")


class MongoCollection:
    """Calls raise Transient as `MongoConnection.call` does, and ask nothing of the server when there is nothing to ask."""

    def __init__(self, connection: MongoConnection, name: str) -> None:
        self._call, self._watch, self._name = connection.call, connection.watch, name
        self._collection = connection.collection(name)

    def find(self, where: Document, order: Order | None = None, limit: int | None = None, *, bounded: str | None = None) -> list[Document]:
        """The documents a filter finds; no limit is None, and `bounded` says why there needs to be none."""
        if limit is not None and limit < 1:
            return []
        command = {"filter": where, "sort": order, "limit": limit or 0, "comment": bounded}
        return self._ask("find", command, lambda: list(self._collection.find(where, sort=order, limit=limit or 0, comment=bounded)))

    def of_ids(self, ids: list[str]) -> dict[str, Document]:
        """The documents with these ids, by id; unknown ids are absent."""
        return {row["_id"]: row for row in self.find(of_ids(ids))} if ids else {}

    def aggregate(self, pipeline: Pipeline) -> list[Document]:
        """What comes out of a pipeline."""
        return self._ask("aggregate", {"pipeline": pipeline}, lambda: list(self._collection.aggregate(pipeline)))

    def add(self, rows: list[Document]) -> list[Any]:
        """Add the rows that are not there; the ids of those that clashed with one that is."""
        return self._ask("insert", {}, lambda: add(self._collection, rows)) if rows else []

    def update(self, updates: list[UpdateOne]) -> int:
        """Make updates of one document each; how many found theirs as they wanted it."""
        if not updates:
            return 0
        command = {"updates": [{"q": updates[0]._filter}]}  # the driver's operations do not tell theirs otherwise
        return self._ask("update", command, lambda: self._collection.bulk_write(updates, ordered=False).matched_count)

    def remove(self, ids: list[str]) -> None:
        """Remove the documents with these ids; unknown ids are ignored."""
        if ids:
            self._ask("delete", {"deletes": [{"q": of_ids(ids)}]}, lambda: self._collection.delete_many(of_ids(ids)))

    def delete(self, wheres: list[Document]) -> int:
        """Remove what each filter finds; how many documents went."""
        if not wheres:
            return 0
        command = {"deletes": [{"q": wheres[0]}]}
        return self._ask("delete", command, lambda: self._collection.bulk_write([DeleteMany(each) for each in wheres]).deleted_count)

    def change(self, where: Document, update: Mapping[str, Any] | Pipeline, *, upsert: bool = False) -> Document | None:
        """Update one document, which `where` finds or, with `upsert`, makes; what it is then, or None."""
        after = ReturnDocument.AFTER
        once = partial(self._collection.find_one_and_update, where, update, upsert=upsert, return_document=after)
        return self._ask("findAndModify", {"query": where}, once)

    def _ask(self, name: str, command: Document, once: Callable[[], T]) -> T:
        if self._watch is None:
            return self._call(once)
        begun = time.perf_counter()
        answer = self._call(once)
        self._watch.saw(name, {name: self._name, **command}, time.perf_counter() - begun, answer)
        return answer
