"""The `.torrent` files that are kept beside the records: {_id: SHA-256, document, unnamed_ms}.

`unnamed_ms`, by the server's clock, is there while it is noted that no job names the file. Looking for jobs and removing are two calls
here; what makes them safe is the note. Whoever keeps a file takes it away, in the same document that the removal asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from pymongo import UpdateOne

from worker.jobs.errors import Transient
from worker.ports import TorrentPage
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.documents import Document
from worker.store.mongo.queries import JOBS, NOW_MS, TORRENTS, Pipeline, of_ids

#: A file that is known may be removed before its note is taken away; then it is new. Twice in a row that is somebody's clock.
KEEP_TRIES = 3


def names_behind(after: str, limit: int) -> Pipeline:
    """Names of files in their order, from the index alone: the files may have 10 MB each."""
    return [{"$match": {"_id": {"$gt": after}}}, {"$sort": {"_id": 1}}, {"$limit": limit}, {"$project": {"_id": 1}}]


def notes(names: list[str]) -> Pipeline:
    """The notes of these files, without the files."""
    return [{"$match": of_ids(names)}, {"$project": {"unnamed_ms": 1}}]


def named_by_jobs(names: list[str]) -> Pipeline:
    """Which of these files jobs name, by an index that has these jobs alone."""
    return [{"$match": naming(names)}, {"$group": {"_id": "$description.document"}}]


def naming(names: list[str]) -> Document:
    """Jobs that name one of these files."""
    return {"description.document": {"$in": names}}


def noted(name: str) -> UpdateOne:
    """Note that no job names the file, by the server's clock as it is when this is written; an older note stays."""
    return UpdateOne({"_id": name, "unnamed_ms": {"$exists": False}}, [{"$set": {"unnamed_ms": NOW_MS}}])


def needed(name: str) -> UpdateOne:
    """Take the note away; where there is none the server writes nothing."""
    return UpdateOne({"_id": name}, {"$unset": {"unnamed_ms": ""}})


class MongoTorrents:
    """That part of `JobStore`."""

    def __init__(self, connection: MongoConnection) -> None:
        self._jobs, self._torrents = MongoCollection(connection, JOBS), MongoCollection(connection, TORRENTS)

    def keep_torrent(self, document: bytes) -> str:
        """See `JobStore.keep_torrent`."""
        name = hashlib.sha256(document).hexdigest()
        for _ in range(KEEP_TRIES):
            if not self._torrents.add([{"_id": name, "document": document}]) or self._torrents.update([needed(name)]):
                return name
        raise Transient("store", "a .torrent file was removed while it was kept again")

    def torrents(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `JobStore.torrents`."""
        return {name: row["document"] for name, row in self._torrents.of_ids(list(names)).items()}

    def unnamed_torrents(self, limit: int, *, after: str | None = None) -> TorrentPage:
        """See `JobStore.unnamed_torrents`."""
        names = [row["_id"] for row in self._torrents.aggregate(names_behind(after or "", limit))] if limit > 0 else []
        unnamed = self._unnamed(names)
        rows = self._torrents.aggregate(notes(unnamed)) if unnamed else []
        found = {row["_id"]: row["unnamed_ms"] / 1000 if "unnamed_ms" in row else None for row in rows}
        return TorrentPage(found, names[-1] if names and len(names) == limit else None)

    def forget_torrents(self, names: Iterable[str], before: float) -> int:
        """See `JobStore.forget_torrents`."""
        unnamed = self._unnamed(list(names))
        self._torrents.update([noted(name) for name in unnamed])
        return self._torrents.delete([of_ids(unnamed) | {"unnamed_ms": {"$lt": int(before * 1000)}}] if unnamed else [])

    def _unnamed(self, names: Sequence[str]) -> list[str]:
        there = {row["_id"] for row in self._jobs.aggregate(named_by_jobs(list(names)))} if names else set()
        return [name for name in names if name not in there]
