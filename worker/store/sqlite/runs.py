"""The run ledger of an SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from worker.ports import Lease, Run
from worker.store.sqlite import queries
from worker.store.sqlite.connections import Connections
from worker.store.sqlite.rows import run_of, to_json


class SqliteRuns:
    """That part of `JobStore`."""

    _connections: Connections

    def claim_run(self, name: str, slot: str, owner: str) -> bool:
        """See `JobStore.claim_run`."""
        with self._writing(0) as (connection, _):
            values = {"name": name, "slot": slot, "owner": owner, "now": self.now()}
            return connection.execute(queries.CLAIM_RUN, values).rowcount == 1

    def end_run(self, name: str, slot: str, *, ok: bool, report: Mapping[str, Any]) -> None:
        """See `JobStore.end_run`."""
        with self._writing(0) as (connection, _):
            values = {"name": name, "slot": slot, "now": self.now(), "ok": ok, "report": to_json(dict(report))}
            connection.execute(queries.END_RUN, values)

    def runs(self, name: str | None, limit: int) -> list[Run]:
        """See `JobStore.runs`."""
        query = queries.RUNS if name is None else queries.RUNS_OF
        with self._connections.reading() as connection:
            rows = connection.execute(query, {"name": name, "limit": limit}).fetchall()
        return [run_of(row) for row in rows]

    def keep_runs(self, runs: Sequence[Run]) -> None:
        """See `JobStore.keep_runs`."""
        rows = [asdict(run) | {"report": to_json(dict(run.report))} for run in runs]
        with self._writing(0) as (connection, _):
            connection.executemany(queries.KEEP_RUN, rows)

    def now(self) -> float:
        """See `JobStore.now`."""
        raise NotImplementedError

    def _writing(self, changes: int, lease: Lease | None = None) -> AbstractContextManager[tuple[sqlite3.Connection, int]]:
        raise NotImplementedError
