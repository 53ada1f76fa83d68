"""An SQLite store as a whole: its file, copied by SQLite itself as it is at one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from worker.jobs.errors import Transient
from worker.ports import Spend, Table
from worker.store.sqlite import copies

KIND = "sqlite"
#: The one part of a dump.
PART = "records/haul.db"
READ_BYTES = 256 * 1024


class SqliteDump:
    """Implements `Dump`. The copy is made when this is: a reader of one moment keeps others from nothing but cutting back the log."""

    kind = KIND
    consistent = True

    def __init__(self, path: Path, copy: Path, spend: Spend) -> None:
        self._copy = copy
        try:
            copies.make(path, copy, spend)
            # SQLite checks in a thread of its own meanwhile, beside Python's lock: each takes about as long as the other.
            with ThreadPoolExecutor(1) as pool, closing(copies.opened(copy)) as connection:
                checked = pool.submit(_check_file, copy, path)
                self._tables = tuple(copies.tables(connection, spend))
                checked.result()
        except sqlite3.Error as error:
            self.close()
            raise Transient("store", f"{path}: {copies.words(error)}") from error
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
        copies.remove(self._copy)


def _check_file(file: Path, path: Path) -> None:
    with closing(copies.opened(file)) as connection:
        copies.check(connection, path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece
