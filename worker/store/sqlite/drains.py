"""Which engines are given nothing new, and what each engine holds."""

from __future__ import annotations

import json

from worker.jobs.states import State
from worker.ports import Drain
from worker.store.sqlite import queries
from worker.store.sqlite.connections import Connections
from worker.store.sqlite.rows import to_json


class SqliteDrains:
    """That part of `JobStore`."""

    _connections: Connections

    def drains(self) -> dict[str, Drain]:
        """See `JobStore.drains`."""
        with self._connections.reading() as connection:
            return {engine: Drain(**json.loads(document)) for engine, document in connection.execute(queries.DRAINS)}

    def drain(self, engine: str, drain: Drain) -> None:
        """See `JobStore.drain`."""
        with self._connections.writing() as connection:
            document = to_json({"move": drain.move, "since": drain.since})
            connection.execute(queries.SET_DRAIN, {"engine": engine, "document": document})

    def undrain(self, engine: str) -> None:
        """See `JobStore.undrain`."""
        with self._connections.writing() as connection:
            connection.execute(queries.DROP_DRAIN, {"engine": engine})

    def engine_states(self) -> dict[str, dict[State, int]]:
        """See `JobStore.engine_states`."""
        found: dict[str, dict[State, int]] = {}
        with self._connections.reading() as connection:
            for engine, state, n in connection.execute(queries.ENGINE_STATES):
                found.setdefault(engine, {})[State(state)] = n
        return found
