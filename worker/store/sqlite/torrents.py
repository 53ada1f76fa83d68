"""The `.torrent` files that are kept beside the records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from worker.ports import TorrentPage
from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.rows import to_json


class SqliteTorrents:
    """That part of `JobStore`. What no job names is looked for and removed in one transaction: no record comes in between."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def keep_torrent(self, document: bytes) -> str:
        """See `JobStore.keep_torrent`."""
        name = hashlib.sha256(document).hexdigest()
        with self._file.changing() as (connection, _):
            connection.execute(queries.KEEP_TORRENT, {"id": name, "document": document})
            connection.execute(queries.DROP_NOTE, {"id": name})
        return name

    def torrents(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `JobStore.torrents`."""
        with self._file.reading() as connection:
            return dict(connection.execute(queries.TORRENTS, {"ids": to_json(list(names))}).fetchall())

    def unnamed_torrents(self, limit: int, *, after: str | None = None) -> TorrentPage:
        """See `JobStore.unnamed_torrents`."""
        with self._file.reading() as connection:
            rows = connection.execute(queries.TORRENTS_LOOKED_AT, {"after": after or "", "limit": max(0, limit)}).fetchall()
        unnamed = {name: since for name, since, named in rows if not named}
        return TorrentPage(unnamed, rows[-1][0] if rows and len(rows) == limit else None)

    def forget_torrents(self, names: Iterable[str], before: float) -> int:
        """See `JobStore.forget_torrents`."""
        ids = to_json(list(names))
        with self._file.changing() as (connection, _):
            connection.execute(queries.NOTE_UNNAMED, {"ids": ids, "now": self._file.now()})
            removed = connection.execute(queries.FORGET_TORRENTS, {"ids": ids, "before": before}).rowcount
            connection.execute(queries.DROP_NOTES, {"ids": ids})
        return removed
