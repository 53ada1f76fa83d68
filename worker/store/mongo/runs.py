"""The run ledger of a MongoDB store: a document a run, found by the name of its work and its slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.ports import Run
from worker.store.mongo import queries
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.documents import firsts, run_document, run_of


class MongoRuns:
    """That part of `JobStore`."""

    _runs: MongoCollection

    def claim_run(self, name: str, slot: str, owner: str) -> bool:
        """See `JobStore.claim_run`."""
        row = run_document(Run(name, slot, owner, self.now()), self._take(queries.RUNS, 1))
        if not self._runs.add([row]):
            return True
        return [run["_id"] for run in self._runs.find(queries.slot(name, slot), limit=1)] == [row["_id"]]  # the first answer may be lost

    def end_run(self, name: str, slot: str, *, ok: bool, report: Mapping[str, Any]) -> None:
        """See `JobStore.end_run`."""
        self._runs.change(queries.slot(name, slot) | {"ended_at": None}, queries.end_run(self.now(), ok=ok, report=report))

    def runs(self, name: str | None, limit: int) -> list[Run]:
        """See `JobStore.runs`."""
        return [run_of(row) for row in self._runs.find(queries.runs(name), queries.NEWEST, limit)]

    def keep_runs(self, runs: Sequence[Run]) -> None:
        """See `JobStore.keep_runs`."""
        fresh = firsts(runs, lambda run: (run.name, run.slot))
        place = self._take(queries.RUNS, len(fresh))
        self._runs.add([run_document(run, at) for at, run in enumerate(fresh.values(), place)])

    def now(self) -> float:
        """See `JobStore.now`."""
        raise NotImplementedError

    def _take(self, counter: str, n: int) -> int:
        raise NotImplementedError
