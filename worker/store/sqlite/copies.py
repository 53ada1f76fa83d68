"""Copies of a database file, and the file itself while no store has it open: made, checked, counted by table, removed."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from worker.jobs.errors import Transient
from worker.ports import Spend, Table
from worker.store.sqlite.connections import BUSY_S

#: Copied at once: a step holds the reader's lock, and its own bytes in memory.
STEP_PAGES = 512
#: Rows hashed at once, which takes Python's lock, so that others wait for less than a millisecond.
ROWS = 16


def opened(path: Path) -> sqlite3.Connection:
    """A connection of its own, to be closed; nothing is checked or brought up to date."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def make(path: Path, copy: Path, spend: Spend) -> None:
    """A copy of the database at this moment, however long it takes and whoever writes meanwhile: the source is held as it is now.

    It is not flushed: most copies are removed a minute later, and hundreds of megabytes at once would hold up the flushes of others.
    """
    remove(copy)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(opened(path)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
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


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Have SQLite look at all of the database. Raises Transient, which names `path`, when it is damaged."""
    faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if faults != ["ok"]:
        raise Transient("store", f"{path}: the database is damaged: {'; '.join(faults)[:300]}; restore a backup")


def tables(connection: sqlite3.Connection, spend: Spend) -> Iterator[Table]:
    """What is in it, by table; every row is read and hashed."""
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


def without_log(connection: sqlite3.Connection) -> None:
    """All of the database in the one file, and nobody else in it. Raises sqlite3.OperationalError when somebody is."""
    connection.execute("PRAGMA journal_mode = DELETE")


def remove(path: Path) -> None:
    """Remove a database and the files beside it; idempotent."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def flush(path: Path) -> None:
    """A file's bytes, or a directory's names, outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def words(error: sqlite3.Error) -> str:
    """What happened, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full; free some space"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process uses the database; stop Haul on it first"
    return f"the database is damaged or cannot be read ({error})"
