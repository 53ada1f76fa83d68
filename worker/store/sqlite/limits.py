"""The limits that were set at run time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.rows import from_json, to_json


class SqliteLimits:
    """That part of `JobStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def limits(self) -> dict[str, Any]:
        """See `JobStore.limits`."""
        with self._file.reading() as connection:
            return {name: from_json(value) for name, value in connection.execute(queries.LIMITS)}

    def set_limits(self, values: Mapping[str, Any], drop: Iterable[str] = ()) -> None:
        """See `JobStore.set_limits`."""
        with self._file.changing() as (connection, _):
            connection.executemany(queries.DROP_LIMIT, [{"name": name} for name in drop])
            connection.executemany(queries.SET_LIMIT, [{"name": name, "value": to_json(value)} for name, value in values.items()])
