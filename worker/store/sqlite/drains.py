"""Which engines are given nothing new."""

from __future__ import annotations

import json

from worker.ports import Drain
from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.rows import to_json


class SqliteDrains:
    """That part of `JobStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def drains(self) -> dict[str, Drain]:
        """See `JobStore.drains`."""
        with self._file.reading() as connection:
            return {engine: Drain(**json.loads(document)) for engine, document in connection.execute(queries.DRAINS)}

    def drain(self, engine: str, drain: Drain) -> None:
        """See `JobStore.drain`."""
        with self._file.writing() as connection:
            document = to_json({"move": drain.move, "since": drain.since})
            connection.execute(queries.SET_DRAIN, {"engine": engine, "document": document})

    def undrain(self, engine: str) -> None:
        """See `JobStore.undrain`."""
        with self._file.writing() as connection:
            connection.execute(queries.DROP_DRAIN, {"engine": engine})
