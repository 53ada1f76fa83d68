"""Indexes and tables of an SQLite file against those of a file that was just made."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from worker.jobs.errors import Transient
from worker.settings import SettingsError
from worker.store.drift import Drift, compared
from worker.store.sqlite.connections import BUSY_S
from worker.store.sqlite.schema import SCHEMA_VERSION, check_file, prepare

#: Those that belong to a constraint have no text.
_ALL = "SELECT tbl_name || '.' || name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"


class SqliteIndexes:
    """Implements `Indexes`. Nothing but `make` and `drop` writes to the file, nor is it brought up to date."""

    def __init__(self, path: Path) -> None:
        try:
            check_file(path)
        except ValueError as error:
            raise SettingsError(f"HAUL_STORE_URL: {path} {error}") from None
        self._path = path
        self._file = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)

    def drift(self) -> Drift:
        """See `Indexes.drift`."""
        with self._mapped(), closing(_fresh()) as fresh:
            return compared(dict(_indexes(fresh)), dict(_indexes(self._file)), [*self._tables(fresh)])

    def make(self, names: Sequence[str]) -> None:
        """See `Indexes.make`."""
        there = self.drift()
        with self._mapped(), closing(_fresh()) as fresh:
            texts = {name: text for name, text in fresh.execute(_ALL) if name in names and name in there.missing}
            self._write(list(texts.values()))

    def drop(self, names: Sequence[str]) -> None:
        """See `Indexes.drop`."""
        with self._mapped():
            there = [name for name, _ in _indexes(self._file) if name in names]
            self._write([f"DROP INDEX {_quoted(name.partition('.')[2])}" for name in there])

    def close(self) -> None:
        """See `Indexes.close`."""
        self._file.close()

    def _write(self, statements: Sequence[str]) -> None:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                self._file.execute(statement)
            self._file.execute("COMMIT")
        finally:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")

    def _tables(self, fresh: sqlite3.Connection) -> Iterator[str]:
        version = self._file.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            yield f"the file has schema {version}, this Haul {SCHEMA_VERSION}: a store that is opened is brought up to date"
        declared, there = (dict(_columns(connection)) for connection in (fresh, self._file))
        for name in declared.keys() | there.keys():
            if declared.get(name) != there.get(name):
                what = "is missing" if name not in there else "is not Haul's" if name not in declared else "is defined otherwise"
                yield f"{name} {what}"

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Transient("store", f"{self._path}: {error}") from error


def _fresh() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare(connection)
    return connection


def _indexes(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    return ((name, re.sub(r"\s+", " ", text).strip()) for name, text in connection.execute(_ALL))


def _columns(connection: sqlite3.Connection) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Columns by table: what was added later stands in another place, and is the same."""
    for (table,) in connection.execute(_TABLES).fetchall():
        for row in connection.execute(f"PRAGMA table_info({_quoted(table)})"):
            yield f"{table}.{row[1]}", tuple(row[2:])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
