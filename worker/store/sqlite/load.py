"""A dump put back: as one file in the place of the live one, or some of its tables in one transaction."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from worker.jobs.errors import Failed
from worker.jobs.states import Cause
from worker.ports import JobStore, Spend, Table
from worker.store.sqlite import copies
from worker.store.sqlite.dump import PART
from worker.store.sqlite.schema import is_current, prepare
from worker.store.sqlite.store import SqliteStore

#: What belongs to a table, is no use without it, and comes and goes with it.
WITH: Mapping[str, tuple[str, ...]] = {"jobs": ("progress",), "torrents": ("unnamed",)}


class SqliteLoad:
    """Implements `Load`."""

    def __init__(self, path: Path, staged: Path, spend: Spend, only: frozenset[str]) -> None:
        self._path, self._staged, self._spend = path, staged, spend
        self._only = only | {name for table in only for name in WITH.get(table, ())}
        copies.remove(staged)
        self._store: SqliteStore | None = None

    def wants(self, part: str) -> bool:
        """See `Load.wants`."""
        return part == PART

    def take(self, part: str, chunks: Iterator[bytes]) -> None:  # noqa: ARG002 - there is but one
        """See `Load.take`."""
        self._staged.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self._staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def settle(self) -> tuple[Table, ...]:
        """See `Load.settle`."""
        with _damage_told(self._staged), closing(copies.opened(self._staged)) as connection:
            copies.check(connection, self._staged)
            return tuple(table for table in copies.tables(connection, self._spend) if not self._only or table.name in self._only)

    def open(self) -> JobStore:
        """See `Load.open`."""
        self._store = SqliteStore(self._staged)
        return self._store

    def commit(self) -> Path | None:
        """See `Load.commit`."""
        with _damage_told(self._staged):
            with closing(copies.opened(self._staged)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                prepare(connection)
                connection.execute("UPDATE leases SET owner = NULL, until = 0")
                connection.execute("COMMIT")
                copies.without_log(connection)
            return self._take_over() if self._only else self._replace()

    def close(self) -> None:
        """See `Load.close`."""
        if self._store:
            self._store.close()
        copies.remove(self._staged)

    def _replace(self) -> Path | None:
        """The new file in the place of the old one, of which nothing is lost: it is there under another name before."""
        kept = self._aside() if self._path.exists() else None
        os.replace(self._staged, self._path)
        copies.flush(self._path.parent)
        return kept

    def _aside(self) -> Path:
        kept = _free(self._path)
        try:
            with closing(copies.opened(self._path)) as connection:
                copies.without_log(connection)
            os.link(self._path, kept)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise
            # It is damaged, and its log cannot be written into it: they are kept together.
            for suffix in ("-shm", "-wal", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self._path}{suffix}", f"{kept}{suffix}")
        copies.flush(self._path.parent)
        return kept

    def _take_over(self) -> Path:
        """Some tables only, in one transaction; the whole file as it was is copied first."""
        kept = _free(self._path)
        copies.make(self._path, kept, self._spend)
        copies.flush(kept)
        copies.flush(kept.parent)
        with closing(copies.opened(self._path)) as connection:
            connection.execute("ATTACH ? AS backup", (str(self._staged),))
            connection.execute("BEGIN IMMEDIATE")
            prepare(connection)
            assert is_current(connection)
            known = {name for (name,) in connection.execute("SELECT name FROM backup.sqlite_master WHERE type = 'table'")}
            for name in sorted(self._only & known - {"meta"}):
                columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f'PRAGMA backup.table_info("{name}")'))
                connection.execute(f'DELETE FROM main."{name}"')  # noqa: S608 - names of tables
                connection.execute(f'INSERT INTO main."{name}" ({columns}) SELECT {columns} FROM backup."{name}"')  # noqa: S608 - names of tables
            connection.execute("UPDATE main.meta SET changes = max(changes, (SELECT changes FROM backup.meta))")
            connection.execute("COMMIT")
        return kept


def _free(path: Path) -> Path:
    """A name beside the file that nothing has."""
    stem = f"{path.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = (path.with_name(stem + (f"-{number}" if number else "")) for number in range(1000))
    return next(name for name in names if not name.exists())


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Failed(Cause.DISK, f"{path}: {copies.words(error)}") from error
