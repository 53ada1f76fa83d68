"""A MongoDB database as a whole, in the layout of mongodump: `<database>/<collection>.bson` and `.metadata.json`.

Every collection is read once, in the order of its ids, as bytes that nobody takes apart. On a replica set all of them
are read at one moment, as long as the server keeps it (five minutes, unless it was told otherwise); then, and on a standalone server,
each document is as it was at a moment of its own. Haul never changes two documents together, so what such a backup holds is what a
crash may leave: the collections are read so that nothing is newer than what it relies on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from worker.patience import Patience
from worker.ports import Spend, Table, Wait
from worker.ports.dump import Overtaken, unseen
from worker.store.mongo.calls import UNAUTHORIZED, MongoCalls
from worker.store.mongo.connection import RESTORING, MongoConnection
from worker.store.mongo.load import MongoLoad
from worker.store.mongo.queries import COUNTERS, JOBS
from worker.store.mongo.raw import BSON, METADATA, SNAPSHOT_GONE, Cursor, definition_of, order_of, path_of

KIND = "mongodb"
#: The server does not keep the moment that was read at, or never keeps one.
_NO_SNAPSHOT = (72, 123, *SNAPSHOT_GONE)


class MongoArchive:
    """Implements `Archive`."""

    kind = KIND
    keeps_aside = False

    def __init__(self, url: str, profile: str) -> None:
        self._url, self._profile = url, profile
        self._overtaken = False

    def dump(self, scratch: Path, spend: Spend, wait: Wait = unseen) -> MongoDump:  # noqa: ARG002 - no file; what is written is counted
        """See `Archive.dump`."""
        calls = MongoCalls.to(self._url, self._profile, Patience(wait))
        return MongoDump(calls, snapshot=not self._overtaken, overtaken=self._was_overtaken)

    def load(self, spend: Spend, *, only: Collection[str] = (), apart: Path | None = None, wait: Wait = unseen) -> MongoLoad:
        """See `Archive.load`."""
        return MongoLoad(self._url, self._profile, spend, Patience(wait), frozenset(only), apart=apart is not None)

    def documents(self) -> int | None:
        """See `Archive.documents`."""
        connection = self._connected()
        try:
            if connection.call(lambda: connection.collection(RESTORING).find_one()):
                return 0  # half of a restore
            return connection.call(lambda: connection.collection(JOBS).count_documents({}))
        finally:
            connection.close()

    def _was_overtaken(self) -> None:
        self._overtaken = True

    def _connected(self) -> MongoConnection:
        return MongoConnection(self._url, self._profile, prepare=False)


class MongoDump:
    """Implements `Dump`."""

    kind = KIND

    def __init__(self, calls: MongoCalls, *, snapshot: bool, overtaken: Callable[[], None]) -> None:
        self._calls, self._overtaken = calls, overtaken
        self._tables: list[Table] = []
        self._session: ClientSession | None = None
        try:
            self._about = {row["name"]: row for row in calls.ask(lambda: list(calls.database.list_collections()))}
            self._session = calls.ask(self._snapshot) if snapshot else None
            stats = calls.ask(lambda: calls.database.command("dbStats"))
        except BaseException:
            self.close()
            raise
        self.consistent = self._session is not None
        self.size = int(stats.get("dataSize", 0))

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """See `Dump.parts`."""
        names = [name for name in self._about if not name.startswith(("system.", RESTORING))]
        for name in sorted(names, key=order_of):
            about = self._about[name]
            definition = definition_of(self._calls, name, about)
            yield path_of(self._calls.name, name, METADATA), iter([definition.encode()])
            if about.get("type") != "view":
                yield path_of(self._calls.name, name, BSON), self._documents(name, definition)

    def tables(self) -> tuple[Table, ...]:
        """See `Dump.tables`."""
        return tuple(self._tables)

    def close(self) -> None:
        """See `Dump.close`."""
        if self._session:
            self._session.end_session()
        self._calls.close()

    def _documents(self, name: str, definition: str) -> Iterator[bytes]:
        digest, count = hashlib.sha256(), 0
        try:
            for batch, documents in Cursor(self._calls, name, self._about[name], self._session).batches():
                digest.update(batch)
                count += documents
                yield batch
        except Overtaken:
            self._overtaken()
            raise
        self._tables.append(Table(name, count, digest.hexdigest(), definition))

    def _snapshot(self) -> ClientSession | None:
        """A session that reads at one moment; None where there is none, or where it would not last."""
        session = self._calls.database.client.start_session(snapshot=True)
        try:
            self._calls.collection(COUNTERS).find_one({}, session=session)
        except OperationFailure as error:
            session.end_session()
            if error.code in _NO_SNAPSHOT or error.code == UNAUTHORIZED:
                return None
            raise
        return session
