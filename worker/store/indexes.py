"""The indexes a store has against those Haul declares; nothing is dropped unless it is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.settings import SettingsError
from worker.store import sqlite_path
from worker.store.drift import Drift


class Indexes(Protocol):
    """The indexes of one store."""

    def drift(self) -> Drift:
        """What differs now; writes nothing."""

    def make(self, names: Sequence[str]) -> None:
        """Make declared indexes that are missing; idempotent. Writers may wait meanwhile."""

    def drop(self, names: Sequence[str]) -> None:
        """Drop indexes; unknown names are ignored."""

    def close(self) -> None:
        """Release the connection."""


def open_indexes(url: str, profile: str) -> Indexes:
    """The indexes of the store at an address, which is not prepared: opening a store makes what is missing.

    Raises:
        SettingsError: there is no store, or it cannot be used.
        Transient: it does not answer.
    """
    if path := sqlite_path(url):
        from worker.store.sqlite.indexes import SqliteIndexes

        if not path.is_file():
            raise SettingsError(f"HAUL_STORE_URL: there is no store at {path} yet; it is made with all indexes")
        return SqliteIndexes(path)
    from worker.store.mongo.address import Unusable
    from worker.store.mongo.connection import MongoConnection
    from worker.store.mongo.indexes import MongoIndexes

    try:
        return MongoIndexes(MongoConnection(url, profile, prepare=False))
    except Unusable as error:
        raise SettingsError(f"HAUL_STORE_URL: {error}") from None
