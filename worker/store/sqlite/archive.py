"""Where the records of an SQLite store lie: read as a whole for a backup, written by a restore."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from worker.jobs.errors import Rejected
from worker.ports import Spend, Wait, unseen
from worker.store.sqlite import copies
from worker.store.sqlite.dump import KIND, SqliteDump
from worker.store.sqlite.load import SqliteLoad


class SqliteArchive:
    """Implements `Archive`."""

    kind = KIND
    keeps_aside = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def dump(self, scratch: Path, spend: Spend, wait: Wait = unseen) -> SqliteDump:  # noqa: ARG002 - a file does not go away
        """See `Archive.dump`."""
        if not self._path.is_file():
            raise Rejected("store", f"there is no store at {self._path} yet")
        return SqliteDump(self._path, scratch / "haul.db.copy", spend)

    def load(self, spend: Spend, *, only: Collection[str] = (), apart: Path | None = None, wait: Wait = unseen) -> SqliteLoad:  # noqa: ARG002
        """See `Archive.load`."""
        staged = self._path.with_name(self._path.name + ".restoring") if apart is None else apart / "haul.db"
        return SqliteLoad(self._path, staged, spend, frozenset(only))

    def documents(self) -> int | None:
        """See `Archive.documents`."""
        if not self._path.exists() or not self._path.stat().st_size:
            return 0
        try:
            with closing(copies.opened(self._path)) as connection:
                tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]
                return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0]) if tables else 0
        except sqlite3.Error:
            return None
