"""The limits that were set at run time: `{_id: name, value}`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.store import bounded
from worker.store.mongo import queries
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection


class MongoLimits:
    """That part of `JobStore`."""

    def __init__(self, connection: MongoConnection) -> None:
        self._limits = MongoCollection(connection, queries.LIMITS)

    def limits(self) -> dict[str, Any]:
        """See `JobStore.limits`."""
        return {row["_id"]: row["value"] for row in self._limits.find({}, bounded=bounded.SETTINGS)}

    def set_limits(self, values: Mapping[str, Any], drop: Iterable[str] = ()) -> None:
        """See `JobStore.set_limits`."""
        self._limits.remove(list(drop))
        self._limits.update([queries.set_limit(name, value) for name, value in values.items()])
