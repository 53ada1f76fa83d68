"""A dump written into a MongoDB: beside the live collections, compared, then put in their place one by one.

Where there is nothing yet it is written in place. Either way a mark is there while the collections are not those of one moment, and
with it no store opens the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from bson import json_util
from pymongo.errors import OperationFailure

from worker.jobs.errors import Failed, Rejected, Transient
from worker.jobs.states import Cause
from worker.patience import Patience
from worker.ports import JobStore, Spend, Table
from worker.store.mongo.calls import BATCH_S, WHOLE_S, MongoCalls
from worker.store.mongo.connection import RESTORING, MongoConnection
from worker.store.mongo.documents import Document
from worker.store.mongo.drains import DRAINS
from worker.store.mongo.leases import RELEASE
from worker.store.mongo.queries import BREAKERS, COUNTERS, JOBS, LEASES, LIMITS, RUNS, TORRENTS
from worker.store.mongo.raw import METADATA, STAGED, Cursor, Torn, collection_of, definition_of, order_of, raw_codec, rows_of
from worker.store.mongo.store import MongoStore
from worker.store.mongo.writing import Writing

OURS = frozenset({JOBS, TORRENTS, LEASES, RUNS, LIMITS, BREAKERS, DRAINS, COUNTERS})
#: The name of the scratch database of a trial is the database's own with this behind it.
TRIAL = "_haul_drill"
NAME_BYTES_MAX = 63
NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS = 26, 48


class MongoLoad:
    """Implements `Load`: into collections beside the live ones, or into a database of its own."""

    def __init__(self, url: str, profile: str, spend: Spend, patience: Patience, only: frozenset[str], *, apart: bool) -> None:
        self._url, self._profile, self._spend, self._patience, self._only = url, profile, spend, patience, only
        self._calls = MongoCalls.to(url, profile, patience)
        self._apart, self._in_place, self._was_half = apart, False, False
        self._about: dict[str, Document] = {}
        self._loaded: dict[str, int] = {}
        self._store: MongoStore | None = None
        self._there = self._calls
        try:
            if apart:
                self._url = self._trial_url()
                self._there = MongoCalls.to(self._url, profile, patience)
            else:
                self._was_half = bool(self._calls.ask(self._calls.collection(RESTORING).find_one))
                self._in_place = not only and (self._was_half or self._is_empty())
            self._prefix = "" if apart or self._in_place else STAGED
            if not self._in_place:
                self._clear()
        except BaseException:
            self._there.close()
            self._calls.close()
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
                self._there.ask(lambda: self._there.database.drop_collection(name), WHOLE_S)
            self._about[name] = json_util.loads(b"".join(chunks))
            self._make(name)
            return
        collection = self._there.database.get_collection(self._prefix + name, raw_codec())
        self._loaded[name] = 0
        for rows in rows_of(chunks):
            self._there.ask(Writing(collection, rows, name).write, BATCH_S)
            self._loaded[name] += len(rows)

    def settle(self) -> tuple[Table, ...]:
        """See `Load.settle`."""
        return tuple(self._read_back(name) for name in self._loaded)

    def open(self) -> JobStore:
        """See `Load.open`."""
        self._store = MongoStore(self._patience.tried(lambda: MongoConnection(self._url, self._profile)))
        return self._store

    def commit(self) -> Path | None:
        """See `Load.commit`."""
        calls = self._calls
        if LEASES in self._loaded:
            calls.ask(lambda: calls.collection(self._prefix + LEASES).update_many({}, RELEASE))
        self._mark()
        for name in sorted(self._loaded, key=order_of, reverse=True) if not self._in_place else ():
            if name == JOBS and COUNTERS not in self._loaded:
                self._raise_counter()
            self._take_place(name)
        for name in OURS - set(self._loaded) if not self._only else ():
            calls.ask(partial(calls.database.drop_collection, name), WHOLE_S)
        calls.ask(lambda: calls.database.drop_collection(RESTORING))
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
            self._calls.close()

    def _trial_url(self) -> str:
        own = self._calls.name
        if len(f"{own}{TRIAL}".encode()) > NAME_BYTES_MAX:
            raise Rejected("store", f"the database {own!r} has too long a name for a trial beside it", fix="use a shorter one")
        return _beside(self._url, f"{own}{TRIAL}", own)

    def _make(self, name: str) -> None:
        about, database = self._about[name], self._there.database
        create = {"create": self._prefix + name, **about.get("options", {})}
        begun = False

        def made() -> None:
            nonlocal begun
            try:
                begun, again = True, begun
                database.command(create)
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS or not again:
                    raise

        self._there.ask(made)
        # Before the documents: they come in the order of their ids, and a server builds none of them anew.
        indexes = [dict(index) for index in about["indexes"] if index["name"] != "_id_"]
        if indexes:
            self._there.ask(lambda: database.command({"createIndexes": self._prefix + name, "indexes": indexes}))

    def _read_back(self, name: str) -> Table:
        staged = self._prefix + name
        rows = self._there.ask(lambda: list(self._there.database.list_collections(filter={"name": staged})))
        if not rows:
            raise Failed(Cause.DISK, f"the collection {name!r} that was restored is gone: somebody else works on the database")

        def read() -> Table:
            digest, count = hashlib.sha256(), 0
            try:
                for batch, documents in Cursor(self._there, staged, rows[0], None).batches():
                    digest.update(batch)
                    count += documents
                    self._spend(len(batch))
            except Torn as error:  # nobody has the half of it
                raise Transient(error.service, error.detail) from None
            return Table(name, count, digest.hexdigest(), definition_of(self._there, staged, rows[0], shown=name))

        return self._patience.tried(read)

    def _take_place(self, name: str) -> None:
        """One rename; when its answer was lost the second one finds nothing to rename, and what took the place is counted."""
        database, begun = self._calls.database, False

        def renamed() -> None:
            nonlocal begun
            try:
                begun, again = True, begun
                database[STAGED + name].rename(name, dropTarget=True)
            except OperationFailure as error:
                if error.code != NAMESPACE_NOT_FOUND or not again or database[name].count_documents({}) != self._loaded[name]:
                    raise

        self._calls.ask(renamed, WHOLE_S)

    def _raise_counter(self) -> None:
        rows = self._calls.database[STAGED + JOBS]
        tops = self._calls.ask(lambda: [list(rows.find({}, [field]).sort(field, -1).limit(1)) for field in ("seq", "changed")])
        top = max((int(found[0].get(field, 0)) for field, found in zip(("seq", "changed"), tops, strict=True) if found), default=0)
        counters = self._calls.collection(COUNTERS)
        self._calls.ask(lambda: counters.update_one({"_id": JOBS}, {"$max": {"n": top}}, upsert=True))

    def _clear(self) -> None:
        """Remove what an earlier one left, and what this one did not commit. An empty database is none."""
        there = self._there
        if self._in_place:
            doomed = list(self._about)
        else:
            names = there.ask(there.database.list_collection_names)
            doomed = [name for name in names if name.startswith(self._prefix) and not name.startswith("system.")]
        for name in doomed:
            there.ask(partial(there.database.drop_collection, name), WHOLE_S)
        if self._in_place and doomed and not self._was_half:
            there.ask(lambda: there.database.drop_collection(RESTORING))

    def _mark(self) -> None:
        rows = self._calls.collection(RESTORING)
        self._calls.ask(lambda: rows.update_one({"_id": "restore"}, {"$set": {"half": True}}, upsert=True))

    def _is_empty(self) -> bool:
        """No document is there but counters, and leases that somebody had."""
        database = self._calls.database
        names = self._calls.ask(database.list_collection_names)
        looked = [name for name in names if name not in (COUNTERS, LEASES) and not name.startswith(("system.", RESTORING))]
        return not any(self._calls.ask(database[name].find_one) for name in looked)


def _beside(url: str, name: str, auth: str) -> str:
    """The address of another database of the same server, for the same user, who is known by the first one unless it says otherwise."""
    parts = urlsplit(url)
    query = parts.query
    if "@" in parts.netloc and "authsource=" not in query.lower() and parts.scheme == "mongodb":
        query = f"{query}&authSource={quote(auth, safe='')}".lstrip("&")
    return urlunsplit(parts._replace(path=f"/{quote(name, safe='')}", query=query))
