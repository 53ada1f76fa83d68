"""The run ledger of a MongoDB store: a document a run, found by the name of its work and its slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.ports import Run
from worker.store.lines import by_name
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.counters import MongoCounters
from worker.store.mongo.documents import Document, firsts, run_document, run_of
from worker.store.mongo.queries import NEWEST, RUNS, Pipeline

#: Lines forgotten by one call to the server.
FORGET_MAX = 1_000


def line(name: str, slot: str) -> Document:
    """One line of the ledger."""
    return {"name": name, "slot": slot}


def ended(at: float, *, ok: bool, report: Mapping[str, Any]) -> Document:
    """How a run went."""
    return {"$set": {"ended_at": at, "ok": ok, "report": dict(report)}}


def newest(name: str | None) -> Document:
    """`JobStore.runs`, to be read by `NEWEST`."""
    return {} if name is None else {"name": name}


def surplus(name: str, keep: int, before: float | None) -> Pipeline:
    """The ids of lines of this name behind the newest `keep`, without the reports in them."""
    old: Pipeline = [] if before is None else [{"$match": {"started_at": {"$lt": before}}}]
    behind: Pipeline = [{"$match": {"name": name}}, {"$sort": {"seq": -1}}, {"$skip": keep}]
    return [*behind, *old, {"$limit": FORGET_MAX}, {"$project": {"_id": 1}}]


def latest(names: Sequence[str], limit: int) -> Pipeline:
    """`JobStore.latest_runs`: an arm a name, each of which reads its own lines only."""
    arms: list[Pipeline] = [[{"$match": {"name": name}}, {"$sort": {"seq": -1}}, {"$limit": limit}] for name in names]
    return [*arms[0], *({"$unionWith": {"coll": RUNS, "pipeline": arm}} for arm in arms[1:])]


class MongoRuns:
    """That part of `JobStore`."""

    def __init__(self, connection: MongoConnection, counters: MongoCounters) -> None:
        self._runs = MongoCollection(connection, RUNS)
        self._now, self._counters = connection.now, counters

    def claim_run(self, name: str, slot: str, owner: str) -> bool:
        """See `JobStore.claim_run`."""
        row = run_document(Run(name, slot, owner, self._now()), self._counters.take(RUNS, 1))
        if not self._runs.add([row]):
            return True
        return [run["_id"] for run in self._runs.find(line(name, slot), limit=1)] == [row["_id"]]  # the first answer may be lost

    def end_run(self, name: str, slot: str, *, ok: bool, report: Mapping[str, Any]) -> None:
        """See `JobStore.end_run`."""
        self._runs.change(line(name, slot) | {"ended_at": None}, ended(self._now(), ok=ok, report=report))

    def runs(self, name: str | None, limit: int) -> list[Run]:
        """See `JobStore.runs`."""
        return [run_of(row) for row in self._runs.find(newest(name), NEWEST, limit)]

    def keep_runs(self, runs: Sequence[Run]) -> None:
        """See `JobStore.keep_runs`."""
        fresh = firsts(runs, lambda run: (run.name, run.slot))
        place = self._counters.take(RUNS, len(fresh))
        self._runs.add([run_document(run, at) for at, run in enumerate(fresh.values(), place)])

    def latest_runs(self, names: Sequence[str], limit: int) -> dict[str, list[Run]]:
        """See `JobStore.latest_runs`."""
        return by_name(names, map(run_of, self._runs.aggregate(latest(names, limit)))) if names else {}

    def drop_runs(self, name: str, keep: int, before: float | None = None) -> int:
        """See `JobStore.drop_runs`."""
        dropped = 0
        while found := [row["_id"] for row in self._runs.aggregate(surplus(name, keep, before))]:
            self._runs.remove(found)
            dropped += len(found)
        return dropped
