"""Which engines are given nothing new, and what each engine holds."""

from __future__ import annotations

from dataclasses import asdict

from pymongo import UpdateOne

from worker.jobs.states import State
from worker.ports import Drain
from worker.store import bounded
from worker.store.mongo import pipelines
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection

DRAINS = "drains"


class MongoDrains:
    """That part of `JobStore`; a document an engine: {_id: name, move, since}."""

    _connection: MongoConnection
    _jobs: MongoCollection

    def drains(self) -> dict[str, Drain]:
        """See `JobStore.drains`."""
        return {row["_id"]: Drain(bool(row["move"]), float(row["since"])) for row in self._kept().find({}, bounded=bounded.ENGINES)}

    def drain(self, engine: str, drain: Drain) -> None:
        """See `JobStore.drain`."""
        self._kept().update([UpdateOne({"_id": engine}, {"$set": asdict(drain)}, upsert=True)])

    def undrain(self, engine: str) -> None:
        """See `JobStore.undrain`."""
        self._kept().remove([engine])

    def engine_states(self) -> dict[str, dict[State, int]]:
        """See `JobStore.engine_states`."""
        found: dict[str, dict[State, int]] = {}
        for row in self._jobs.aggregate(pipelines.engine_states()):
            found.setdefault(row["_id"]["engine"], {})[State(row["_id"]["state"])] = row["n"]
        return found

    def _kept(self) -> MongoCollection:
        return MongoCollection(self._connection, DRAINS)
