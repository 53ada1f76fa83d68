"""What `JobStore` counts and adds up; nothing is changed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from worker.jobs.states import IN_SLOT, State
from worker.ports import Promised, Usage
from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.rows import to_json, usage_of


class SqliteSums:
    """That part of `JobStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def counts(self, states: Iterable[State] | None = None) -> dict[State, int]:
        """See `JobStore.counts`."""
        query = queries.COUNTS if states is None else queries.COUNTS_OF
        with self._file.reading() as connection:
            rows = connection.execute(query, {"states": to_json(list(states or ()))}).fetchall()
        return {State(state): n for state, n in rows}

    def engine_counts(self) -> dict[str, int]:
        """See `JobStore.engine_counts`."""
        with self._file.reading() as connection:
            return dict(connection.execute(queries.ENGINE_COUNTS).fetchall())

    def engine_states(self) -> dict[str, dict[State, int]]:
        """See `JobStore.engine_states`."""
        found: dict[str, dict[State, int]] = {}
        with self._file.reading() as connection:
            for engine, state, n in connection.execute(queries.ENGINE_STATES):
                found.setdefault(engine, {})[State(state)] = n
        return found

    def slot_counts(self) -> dict[tuple[str, str], int]:
        """See `JobStore.slot_counts`."""
        with self._file.reading() as connection:
            return {(user, tier): n for user, tier, n in connection.execute(queries.SLOT_COUNTS)}

    def slot_uris(self) -> dict[str, int]:
        """See `JobStore.slot_uris`."""
        with self._file.reading() as connection:
            return dict(Counter(uri for (uri,) in connection.execute(queries.SLOT_URIS)))

    def usage(self, users: Iterable[str], since: float) -> dict[str, Usage]:
        """See `JobStore.usage`."""
        values = {"users": to_json(list(users)), "states": to_json([State.QUEUED, *sorted(IN_SLOT)]), "since": since}
        with self._file.reading() as connection:
            counts = connection.execute(queries.USER_COUNTS, values).fetchall()
            return usage_of(counts, connection.execute(queries.USER_BYTES, values).fetchall())

    def promised(self) -> list[Promised]:
        """See `JobStore.promised`."""
        with self._file.reading() as connection:
            return [Promised(*row) for row in connection.execute(queries.PROMISED)]

    def followed(self) -> dict[str, int]:
        """See `JobStore.followed`."""
        with self._file.reading() as connection:
            return dict(connection.execute(queries.FOLLOWED).fetchall())
