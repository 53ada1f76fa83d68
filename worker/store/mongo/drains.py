"""Which engines are given nothing new."""

from __future__ import annotations

from dataclasses import asdict

from pymongo import UpdateOne

from worker.ports import Drain
from worker.store import bounded
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection

DRAINS = "drains"


class MongoDrains:
    """That part of `JobStore`; a document an engine: {_id: name, move, since}."""

    def __init__(self, connection: MongoConnection) -> None:
        self._drains = MongoCollection(connection, DRAINS)

    def drains(self) -> dict[str, Drain]:
        """See `JobStore.drains`."""
        return {row["_id"]: Drain(bool(row["move"]), float(row["since"])) for row in self._drains.find({}, bounded=bounded.ENGINES)}

    def drain(self, engine: str, drain: Drain) -> None:
        """See `JobStore.drain`."""
        self._drains.update([UpdateOne({"_id": engine}, {"$set": asdict(drain)}, upsert=True)])

    def undrain(self, engine: str) -> None:
        """See `JobStore.undrain`."""
        self._drains.remove([engine])
