"""What `JobStore` counts and adds up; nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterable

from worker.jobs.states import State
from worker.ports import Promised, Usage
from worker.store.mongo import pipelines
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.documents import usage_of
from worker.store.mongo.queries import JOBS


class MongoSums:
    """That part of `JobStore`."""

    def __init__(self, connection: MongoConnection) -> None:
        self._jobs = MongoCollection(connection, JOBS)

    def counts(self, states: Iterable[State] | None = None) -> dict[State, int]:
        """See `JobStore.counts`."""
        wanted = State if states is None else states
        return {State(row["_id"]): row["n"] for row in self._jobs.aggregate(pipelines.counts(wanted))}

    def engine_counts(self) -> dict[str, int]:
        """See `JobStore.engine_counts`."""
        return {row["_id"]: row["n"] for row in self._jobs.aggregate(pipelines.engine_counts())}

    def engine_states(self) -> dict[str, dict[State, int]]:
        """See `JobStore.engine_states`."""
        found: dict[str, dict[State, int]] = {}
        for row in self._jobs.aggregate(pipelines.engine_states()):
            found.setdefault(row["_id"]["engine"], {})[State(row["_id"]["state"])] = row["n"]
        return found

    def slot_counts(self) -> dict[tuple[str, str], int]:
        """See `JobStore.slot_counts`."""
        return {(row["_id"]["user"], row["_id"]["tier"]): row["n"] for row in self._jobs.aggregate(pipelines.slot_counts())}

    def slot_uris(self) -> dict[str, int]:
        """See `JobStore.slot_uris`."""
        return {row["_id"]: row["n"] for row in self._jobs.aggregate(pipelines.slot_uris())}

    def usage(self, users: Iterable[str], since: float) -> dict[str, Usage]:
        """See `JobStore.usage`."""
        asked = list(users)
        return usage_of(self._jobs.aggregate(pipelines.user_counts(asked)), self._jobs.aggregate(pipelines.user_bytes(asked, since)))

    def promised(self) -> list[Promised]:
        """See `JobStore.promised`."""
        rows = self._jobs.aggregate(pipelines.promised())
        return [Promised(row["_id"]["engine"], row["_id"].get("out"), row["owed"], row["whole"]) for row in rows]

    def followed(self) -> dict[str, int]:
        """See `JobStore.followed`."""
        return {row["_id"]: row["n"] for row in self._jobs.aggregate([*pipelines.FOLLOWED])}
