"""The run ledger of an SQLite store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from worker.ports import Run
from worker.store.lines import by_name
from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.rows import run_of, to_json


class SqliteRuns:
    """That part of `JobStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def claim_run(self, name: str, slot: str, owner: str) -> bool:
        """See `JobStore.claim_run`."""
        with self._file.changing() as (connection, _):
            values = {"name": name, "slot": slot, "owner": owner, "now": self._file.now()}
            return connection.execute(queries.CLAIM_RUN, values).rowcount == 1

    def end_run(self, name: str, slot: str, *, ok: bool, report: Mapping[str, Any]) -> None:
        """See `JobStore.end_run`."""
        with self._file.changing() as (connection, _):
            values = {"name": name, "slot": slot, "now": self._file.now(), "ok": ok, "report": to_json(dict(report))}
            connection.execute(queries.END_RUN, values)

    def runs(self, name: str | None, limit: int) -> list[Run]:
        """See `JobStore.runs`."""
        query = queries.RUNS if name is None else queries.RUNS_OF
        with self._file.reading() as connection:
            rows = connection.execute(query, {"name": name, "limit": limit}).fetchall()
        return [run_of(row) for row in rows]

    def keep_runs(self, runs: Sequence[Run]) -> None:
        """See `JobStore.keep_runs`."""
        rows = [asdict(run) | {"report": to_json(dict(run.report))} for run in runs]
        with self._file.changing() as (connection, _):
            connection.executemany(queries.KEEP_RUN, rows)

    def latest_runs(self, names: Sequence[str], limit: int) -> dict[str, list[Run]]:
        """See `JobStore.latest_runs`."""
        with self._file.reading() as connection:
            rows = connection.execute(queries.LATEST_RUNS, {"names": to_json(list(names)), "limit": limit}).fetchall()
        rows.sort(key=itemgetter(-1), reverse=True)  # no order of its own is asked of SQLite, which would sort in a temporary table
        return by_name(names, (run_of(row[:-1]) for row in rows))

    def drop_runs(self, name: str, keep: int, before: float | None = None) -> int:
        """See `JobStore.drop_runs`."""
        with self._file.writing() as connection:
            return connection.execute(queries.DROP_RUNS, {"name": name, "before": before, "keep": keep}).rowcount
