"""An SQLite store as a whole: its file, copied by SQLite itself as it is at one moment, and put back as one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from worker.jobs.errors import Failed, Rejected, Transient
from worker.jobs.states import Cause
from worker.ports import JobStore, Spend, Table
from worker.store.sqlite.connections import BUSY_S
from worker.store.sqlite.schema import is_current, prepare
from worker.store.sqlite.store import SqliteStore

KIND = "sqlite"
#: The one part of a dump.
PART = "records/haul.db"
READ_BYTES = 256 * 1024
#: Copied at once: a step holds the reader's lock, and its own bytes in memory.
STEP_PAGES = 512
#: Rows hashed at once, which takes Python's lock, so that others wait for less than a millisecond.
ROWS = 16
#: What belongs to a table, is no use without it, and comes and goes with it.
WITH: Mapping[str, tuple[str, ...]] = {"jobs": ("progress",), "torrents": ("unnamed",)}


class SqliteArchive:
    """Implements `Archive`."""

    kind = KIND
    keeps_aside = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def dump(self, scratch: Path, spend: Spend) -> SqliteDump:
        """See `Archive.dump`."""
        if not self._path.is_file():
            raise Rejected("store", f"there is no store at {self._path} yet")
        return SqliteDump(self._path, scratch / "haul.db.copy", spend)

    def load(self, spend: Spend, *, only: Collection[str] = (), apart: Path | None = None) -> SqliteLoad:
        """See `Archive.load`."""
        staged = self._path.with_name(self._path.name + ".restoring") if apart is None else apart / "haul.db"
        return SqliteLoad(self._path, staged, spend, frozenset(only))

    def documents(self) -> int | None:
        """See `Archive.documents`."""
        if not self._path.exists() or not self._path.stat().st_size:
            return 0
        try:
            with closing(_opened(self._path)) as connection:
                tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]
                return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0]) if tables else 0
        except sqlite3.Error:
            return None


class SqliteDump:
    """Implements `Dump`. The copy is made when this is: a reader of one moment keeps others from nothing but cutting back the log."""

    kind = KIND
    consistent = True

    def __init__(self, path: Path, copy: Path, spend: Spend) -> None:
        self._copy = copy
        try:
            _copy(path, copy, spend)
            # SQLite checks in a thread of its own meanwhile, beside Python's lock: each takes about as long as the other.
            with ThreadPoolExecutor(1) as pool, closing(_opened(copy)) as connection:
                checked = pool.submit(_check_file, copy, path)
                self._tables = tuple(_tables(connection, spend))
                checked.result()
        except sqlite3.Error as error:
            self.close()
            raise Transient("store", f"{path}: {_words(error)}") from error
        except BaseException:
            self.close()
            raise
        self.size = copy.stat().st_size

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """See `Dump.parts`."""
        yield PART, _pieces(self._copy)

    def tables(self) -> tuple[Table, ...]:
        """See `Dump.tables`."""
        return self._tables

    def close(self) -> None:
        """See `Dump.close`."""
        _remove(self._copy)


class SqliteLoad:
    """Implements `Load`."""

    def __init__(self, path: Path, staged: Path, spend: Spend, only: frozenset[str]) -> None:
        self._path, self._staged, self._spend = path, staged, spend
        self._only = only | {name for table in only for name in WITH.get(table, ())}
        _remove(staged)
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
        with _damage_told(self._staged), closing(_opened(self._staged)) as connection:
            _check(connection, self._staged)
            return tuple(table for table in _tables(connection, self._spend) if not self._only or table.name in self._only)

    def open(self) -> JobStore:
        """See `Load.open`."""
        self._store = SqliteStore(self._staged)
        return self._store

    def commit(self) -> Path | None:
        """See `Load.commit`."""
        with _damage_told(self._staged):
            with closing(_opened(self._staged)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                prepare(connection)
                connection.execute("UPDATE leases SET owner = NULL, until = 0")
                connection.execute("COMMIT")
                _without_log(connection)
            return self._take_over() if self._only else self._replace()

    def close(self) -> None:
        """See `Load.close`."""
        if self._store:
            self._store.close()
        _remove(self._staged)

    def _replace(self) -> Path | None:
        """The new file in the place of the old one, of which nothing is lost: it is there under another name before."""
        kept = self._aside() if self._path.exists() else None
        os.replace(self._staged, self._path)
        _flush(self._path.parent)
        return kept

    def _aside(self) -> Path:
        kept = _free(self._path)
        try:
            with closing(_opened(self._path)) as connection:
                _without_log(connection)
            os.link(self._path, kept)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise
            # It is damaged, and its log cannot be written into it: they are kept together.
            for suffix in ("-shm", "-wal", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self._path}{suffix}", f"{kept}{suffix}")
        _flush(self._path.parent)
        return kept

    def _take_over(self) -> Path:
        """Some tables only, in one transaction; the whole file as it was is copied first."""
        kept = _free(self._path)
        _copy(self._path, kept, self._spend)
        _flush(kept)
        _flush(kept.parent)
        with closing(_opened(self._path)) as connection:
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


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _copy(path: Path, copy: Path, spend: Spend) -> None:
    """A copy of the database at this moment, however long it takes and whoever writes meanwhile: the source is held as it is now.

    It is not flushed: most copies are removed a minute later, and hundreds of megabytes at once would hold up the flushes of others.
    """
    _remove(copy)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_opened(path)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")
        source.execute("BEGIN")
        page = int(source.execute("PRAGMA page_size").fetchone()[0])
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it is the same
        left = [0]

        def stepped(_status: int, remaining: int, total: int) -> None:
            spend(((left[0] or total) - remaining) * page)
            left[0] = remaining

        source.backup(target, pages=STEP_PAGES, progress=stepped)
        source.execute("ROLLBACK")


def _check_file(file: Path, path: Path) -> None:
    with closing(_opened(file)) as connection:
        _check(connection, path)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if faults != ["ok"]:
        raise Transient("store", f"{path}: the database is damaged: {'; '.join(faults)[:300]}; restore a backup")


def _tables(connection: sqlite3.Connection, spend: Spend) -> Iterator[Table]:
    schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for kind, name, _, sql in schema:
        if kind != "table" or name.startswith("sqlite_"):
            continue
        own = [" ".join(text.split()) for _, _, table, text in schema if table == name]
        order = "" if "WITHOUT ROWID" in sql.upper() else "ORDER BY rowid"
        digest, count, size = hashlib.sha256(), 0, 0
        for row in connection.execute(f'SELECT * FROM "{name}" {order}'):  # noqa: S608 - the name of a table
            text = repr([hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value for value in row]).encode()
            digest.update(text)
            count, size = count + 1, size + len(text)
            if count % ROWS == 0:
                spend(size)
                size = 0
        yield Table(name, count, digest.hexdigest(), f"version {version}; {'; '.join(own)}")


def _without_log(connection: sqlite3.Connection) -> None:
    """All of the database in the one file, and nobody else in it. Raises sqlite3.OperationalError when somebody is."""
    connection.execute("PRAGMA journal_mode = DELETE")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece


def _free(path: Path) -> Path:
    """A name beside the file that nothing has."""
    stem = f"{path.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = (path.with_name(stem + (f"-{number}" if number else "")) for number in range(1000))
    return next(name for name in names if not name.exists())


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """A file's bytes, or a directory's names, outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Failed(Cause.DISK, f"{path}: {_words(error)}") from error


def _words(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full; free some space"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process uses the database; stop Haul on it first"
    return f"the database is damaged or cannot be read ({error})"
