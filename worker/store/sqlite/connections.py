"""Connections to one SQLite file for the threads of one process: one that writes, a few that read."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from worker.jobs.errors import Transient
from worker.store.advisor import Advisor
from worker.store.outage import Outage
from worker.store.sqlite.schema import check_file
from worker.store.sqlite.turn import wait_for_turn
from worker.store.sqlite.watch import Asker, Watched

#: How long a call waits for other processes.
BUSY_S = 5.0
#: How long it waits for other threads of this process; longer, since each of them may wait for other processes.
THREADS_WAIT_S = 10.0
READERS_MAX = 8
#: The write-ahead log is cut back to this after a burst.
LOG_BYTES_KEPT = 64 * 1024 * 1024

assert BUSY_S < THREADS_WAIT_S, "a thread outwaits one whose wait for another process is in vain"

_WORDS: Mapping[int, str] = {
    sqlite3.SQLITE_BUSY: f"another process kept the database locked for {BUSY_S:g} s",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk answered with an error",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; restore a backup",
    sqlite3.SQLITE_NOTADB: "the database is damaged; restore a backup",
    sqlite3.SQLITE_READONLY: "the database cannot be written to",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_NOMEM: "the machine is out of memory",
    sqlite3.SQLITE_INTERRUPT: "the call was interrupted",
    sqlite3.SQLITE_PROTOCOL: "another process kept the database locked",
}


class Connections:
    """Opens and lends connections; those that read see the last committed state and block nobody.

    Args:
        path: the file, made with mode 0600, and its directory, made with mode 0700, when they are not there.
        advisor: sees every statement; it is closed with the connections.

    Raises:
        OSError, ValueError: the path cannot be used.
    """

    def __init__(self, path: Path, advisor: Advisor | None = None) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if Path(f"{path}-wal").exists() and not path.exists():  # a new file would take the log from those who still use the old one
            raise ValueError(f"is gone, and its log {path.name}-wal is still there; put the file back, or remove the log as well")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        check_file(path)
        self.path = self._path = path
        self._advisor = advisor
        self._file = _identity(path)
        self._closed = False
        self._turn = threading.Lock()
        self._outage = Outage(BUSY_S)
        # A place without a connection opens one when it is first lent.
        self._readers: queue.LifoQueue[Watched | None] = queue.LifoQueue(READERS_MAX)
        for _ in range(READERS_MAX):
            self._readers.put(None)
        with self._mapped():
            self._writer = self._connect()
            self._writer.execute("PRAGMA busy_timeout = 0")  # `wait_for_turn` waits
        if advisor:
            advisor.asks(Asker(self.reading))

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is durable once the block has ended, and never was when the block raised.

        Raises:
            Transient: the database cannot be written to now; nothing was written.
        """
        self._outage.check()
        if not self._turn.acquire(timeout=THREADS_WAIT_S):
            raise Transient("store", f"{self._path}: the threads of this process kept it busy for {THREADS_WAIT_S:g} s")
        try:
            self._check_open()
            self._begin()
            with self._mapped():
                try:
                    self._writer.begin()
                    yield self._writer
                    self._writer.execute("COMMIT")
                    self._writer.ran()
                finally:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
        finally:
            self._turn.release()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for one SELECT; each sees its own moment.

        Raises:
            Transient: the database cannot be read now.
        """
        self._check_open()
        try:
            connection = self._readers.get(timeout=THREADS_WAIT_S)
        except queue.Empty:
            raise Transient("store", f"{self._path}: all {READERS_MAX} reading connections were busy for {THREADS_WAIT_S:g} s") from None
        try:
            self._check_open()
            with self._mapped():
                if connection is None:
                    connection = self._connect()
                    connection.execute("PRAGMA query_only = ON")
                connection.begin()
                yield connection
                connection.ran()
        finally:
            self._readers.put(connection)

    def close(self) -> None:
        """Close all connections once the calls under way have ended, or after a bounded wait; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._advisor:
            self._advisor.close()
        deadline = time.monotonic() + THREADS_WAIT_S
        lent = []
        for _ in range(READERS_MAX):
            try:
                lent.append(self._readers.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                break
        for connection in lent:
            if connection:
                connection.close()
            self._readers.put(None)  # wakes those who wait; they find it closed
        if self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._writer.close()
            self._turn.release()

    def _begin(self) -> None:
        locked: Transient | None = None
        try:
            with self._mapped():
                wait_for_turn(lambda: self._writer.execute("BEGIN IMMEDIATE"), BUSY_S)
        except Transient as error:
            locked = error
            raise
        finally:
            self._outage.note(locked)

    def _connect(self) -> Watched:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=Watched)
        try:
            _use_log(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_KEPT}")
            connection.advisor = self._advisor
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_open(self) -> None:
        """SQLite would go on in a file that was taken away, where nobody finds again what it writes."""
        if self._closed:
            raise Transient("store", f"{self._path} is closed in this process")
        if _identity(self._path) != self._file:
            what = "was removed or replaced while it was open; put it back, or start this process again"
            raise Transient("store", f"{self._path} {what}")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
            words = _WORDS.get(code & 0xFF)  # the low byte is the primary code
            if words is None:
                raise
            raise Transient("store", f"{self._path}: {words} ({error})") from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at the path; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _use_log(connection: sqlite3.Connection) -> None:
    """Turn write-ahead logging on; SQLite does not wait here for others who do the same, so this does."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise ValueError("lies on a file system that cannot keep a write-ahead log; choose a local disk")
        return
