"""A dump written into a MongoDB: beside the live collections, compared, then put in their place one by one.

Where there is nothing yet it is written in place. Either way a mark is there while the collections are not those of one moment, and
with it no store opens the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from bson import json_util

from worker.jobs.errors import Rejected
from worker.ports import JobStore, Spend, Table
from worker.store.mongo.connection import RESTORING, MongoConnection
from worker.store.mongo.documents import Document
from worker.store.mongo.drains import DRAINS
from worker.store.mongo.leases import RELEASE
from worker.store.mongo.queries import BREAKERS, COUNTERS, JOBS, LEASES, LIMITS, RUNS, TORRENTS
from worker.store.mongo.raw import METADATA, STAGED, asked, batches, collection_of, counted, definition_of, order_of, raw_codec, rows_of
from worker.store.mongo.store import MongoStore

OURS = frozenset({JOBS, TORRENTS, LEASES, RUNS, LIMITS, BREAKERS, DRAINS, COUNTERS})
#: The name of the scratch database of a trial is the database's own with this behind it.
TRIAL = "_haul_drill"
NAME_BYTES_MAX = 63


class MongoLoad:
    """Implements `Load`: into collections beside the live ones, or into a database of its own."""

    def __init__(self, url: str, profile: str, spend: Spend, only: frozenset[str], *, apart: bool) -> None:
        self._connection = MongoConnection(url, profile, prepare=False)
        self._url, self._profile, self._spend, self._only = url, profile, spend, only
        self._apart, self._in_place, self._was_half = apart, False, False
        self._about: dict[str, Document] = {}
        self._loaded: list[str] = []
        self._store: MongoStore | None = None
        self._there = self._connection
        try:
            if apart:
                self._url = self._trial_url()
                self._there = MongoConnection(self._url, profile, prepare=False)
            else:
                self._was_half = bool(asked(self._connection, self._connection.collection(RESTORING).find_one))
                self._in_place = not only and (self._was_half or self._is_empty())
            self._prefix = "" if apart or self._in_place else STAGED
            if not self._in_place:
                self._clear()
        except BaseException:
            self._there.close()
            self._connection.close()
            raise

    def wants(self, part: str) -> bool:
        """See `Load.wants`."""
        return not self._only or collection_of(part) in self._only

    def take(self, part: str, chunks: Iterator[bytes]) -> None:
        """See `Load.take`."""
        name = collection_of(part)
        if part.endswith(METADATA):
            if self._in_place:
                self._mark()
                asked(self._there, lambda: self._there.database.drop_collection(name))
            self._about[name] = json_util.loads(b"".join(chunks))
            self._make(name)
            return
        collection = self._there.database.get_collection(self._prefix + name, raw_codec())
        for rows in rows_of(chunks):
            asked(self._there, lambda rows=rows: collection.insert_many(rows, ordered=True))  # type: ignore[misc]
        self._loaded.append(name)

    def settle(self) -> tuple[Table, ...]:
        """See `Load.settle`."""
        return tuple(self._read_back(name) for name in self._loaded)

    def open(self) -> JobStore:
        """See `Load.open`."""
        self._store = MongoStore(MongoConnection(self._url, self._profile))
        return self._store

    def commit(self) -> Path | None:
        """See `Load.commit`."""
        database = self._connection.database
        if LEASES in self._loaded:
            asked(self._connection, lambda: database[self._prefix + LEASES].update_many({}, RELEASE))
        self._mark()
        for name in sorted(self._loaded, key=order_of, reverse=True) if not self._in_place else ():
            if name == JOBS and COUNTERS not in self._loaded:
                self._raise_counter()
            asked(self._connection, lambda name=name: database[STAGED + name].rename(name, dropTarget=True))  # type: ignore[misc]
        for name in OURS - set(self._loaded) if not self._only else ():
            asked(self._connection, lambda name=name: database.drop_collection(name))  # type: ignore[misc]
        asked(self._connection, lambda: database.drop_collection(RESTORING))
        self._about = {}
        return None

    def close(self) -> None:
        """See `Load.close`."""
        try:
            if self._store:
                self._store.close()
            self._clear()
        finally:
            self._there.close()
            self._connection.close()

    def _trial_url(self) -> str:
        own = self._connection.name
        if len(f"{own}{TRIAL}".encode()) > NAME_BYTES_MAX:
            raise Rejected("store", f"the database {own!r} has too long a name for a trial beside it", fix="use a shorter one")
        return _beside(self._url, f"{own}{TRIAL}", own)

    def _make(self, name: str) -> None:
        about = self._about[name]
        command = {"create": self._prefix + name, **about.get("options", {})}
        asked(self._there, lambda: self._there.database.command(command))
        # Before the documents: they come in the order of their ids, and a server builds none of them anew.
        indexes = [dict(index) for index in about["indexes"] if index["name"] != "_id_"]
        if indexes:
            command = {"createIndexes": self._prefix + name, "indexes": indexes}
            asked(self._there, lambda: self._there.database.command(command))

    def _read_back(self, name: str) -> Table:
        database, digest, count = self._there.database, hashlib.sha256(), 0
        rows = asked(self._there, lambda: list(database.list_collections(filter={"name": self._prefix + name})))
        for batch in batches(self._there, self._prefix + name, rows[0], None):
            digest.update(batch)
            count += counted(batch)
            self._spend(len(batch))
        return Table(name, count, digest.hexdigest(), definition_of(self._there, self._prefix + name, rows[0], shown=name))

    def _raise_counter(self) -> None:
        rows = self._connection.database[STAGED + JOBS]
        tops = asked(self._connection, lambda: [list(rows.find({}, [field]).sort(field, -1).limit(1)) for field in ("seq", "changed")])
        top = max((int(found[0].get(field, 0)) for field, found in zip(("seq", "changed"), tops, strict=True) if found), default=0)
        counters = self._connection.collection(COUNTERS)
        asked(self._connection, lambda: counters.update_one({"_id": JOBS}, {"$max": {"n": top}}, upsert=True))

    def _clear(self) -> None:
        """Remove what an earlier one left, and what this one did not commit. An empty database is none."""
        database = self._there.database
        if self._in_place:
            doomed = list(self._about)
        else:
            names = asked(self._there, database.list_collection_names)
            doomed = [name for name in names if name.startswith(self._prefix) and not name.startswith("system.")]
        for name in doomed:
            asked(self._there, lambda name=name: database.drop_collection(name))  # type: ignore[misc]
        if self._in_place and doomed and not self._was_half:
            asked(self._there, lambda: database.drop_collection(RESTORING))

    def _mark(self) -> None:
        rows = self._connection.collection(RESTORING)
        asked(self._connection, lambda: rows.update_one({"_id": "restore"}, {"$set": {"half": True}}, upsert=True))

    def _is_empty(self) -> bool:
        """No document is there but counters, and leases that somebody had."""
        database = self._connection.database
        names = asked(self._connection, database.list_collection_names)
        looked = [name for name in names if name not in (COUNTERS, LEASES) and not name.startswith(("system.", RESTORING))]
        return not any(asked(self._connection, lambda name=name: database[name].find_one()) for name in looked)  # type: ignore[misc]


def _beside(url: str, name: str, auth: str) -> str:
    """The address of another database of the same server, for the same user, who is known by the first one unless it says otherwise."""
    parts = urlsplit(url)
    query = parts.query
    if "@" in parts.netloc and "authsource=" not in query.lower() and parts.scheme == "mongodb":
        query = f"{query}&authSource={quote(auth, safe='')}".lstrip("&")
    return urlunsplit(parts._replace(path=f"/{quote(name, safe='')}", query=query))
