"""Indexes of a MongoDB database, declared and there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pymongo import IndexModel

from worker.store.drift import Drift, compared
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.queries import COUNTERS, INDEXES, JOBS, LEASES, LIMITS, RUNS, TORRENTS

#: Options that decide what an index serves.
_OPTIONS = ("unique", "sparse", "partialFilterExpression", "expireAfterSeconds", "collation", "hidden")


class MongoIndexes:
    """Implements `Indexes`."""

    def __init__(self, connection: MongoConnection) -> None:
        self._connection = connection

    def drift(self) -> Drift:
        """See `Indexes.drift`."""
        return compared({name: _text(model.document) for name, model in _declared()}, dict(self._there()))

    def make(self, names: Sequence[str]) -> None:
        """See `Indexes.make`."""
        for name, model in _declared():
            if name in names:
                collection = self._connection.collection(name.partition(".")[0])
                self._connection.call(lambda collection=collection, model=model: collection.create_indexes([model]))  # type: ignore[misc]

    def drop(self, names: Sequence[str]) -> None:
        """See `Indexes.drop`."""
        for name in {name for name, _ in self._there()} & set(names):
            collection, _, index = name.partition(".")
            self._connection.call(lambda collection=collection, index=index: self._connection.collection(collection).drop_index(index))  # type: ignore[misc]

    def close(self) -> None:
        """See `Indexes.close`."""
        self._connection.close()

    def _there(self) -> Iterator[tuple[str, str]]:
        for name in (JOBS, TORRENTS, LEASES, RUNS, LIMITS, COUNTERS):
            collection = self._connection.collection(name)
            rows = self._connection.call(lambda collection=collection: list(collection.list_indexes()))  # type: ignore[misc]
            yield from ((f"{name}.{row['name']}", _text(row)) for row in rows if row["name"] != "_id_")


def _declared() -> Iterator[tuple[str, IndexModel]]:
    return ((f"{name}.{model.document['name']}", model) for name, models in INDEXES.items() for model in models)


def _text(definition: Mapping[str, Any]) -> str:
    """Keys and the options that matter, the same text for the same index."""
    keys = ", ".join(f"{key} {way if isinstance(way, str) else int(way)}" for key, way in definition["key"].items())
    options = {name: definition[name] for name in _OPTIONS if definition.get(name)}
    return f"({keys})" + "".join(f" {name} {json.dumps(value, default=str, sort_keys=True)}" for name, value in options.items())
