"""The connection to a MongoDB database: what is checked when it is opened, and what a call comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from worker.jobs.errors import Transient
from worker.store.advisor import Advisor
from worker.store.mongo.address import OPTIONS, TIMEOUT_MS, Unusable, client_of, database_name, user_of
from worker.store.mongo.documents import Document
from worker.store.mongo.errors import TOO_OLD, VERSION_MIN, refusal, told
from worker.store.mongo.queries import COUNTERS, INDEXES, JOBS, RUNS
from worker.store.mongo.watch import Asker, Watch
from worker.store.outage import Outage
from worker.store.refusals import too_large, unwritable

T = TypeVar("T")

#: A collection that is there while collections are replaced, and behind a restore that was killed then.
RESTORING = "haul_restoring"
#: A connection that breaks so soon is worth another try; a call that waited longer has had its time.
REPEAT_WITHIN_S = 2.0

_DUPLICATE_KEY = 11000
#: What a server says of a document that became too large.
_TOO_LARGE = (10334, 17419, 17420)


class MongoConnection:
    """One database, and calls to it with the driver's errors mapped. Safe for threads; to be opened after a fork.

    Reads go to the primary whatever the address says, since every step reads what the one before has written.

    Args:
        listeners: of the driver's events.
        advisor: sees every operation; it is closed with the connection.
        prepare: make the indexes and counters that are not there.

    Attributes:
        watch: is told of each operation; None for nobody.

    Raises:
        Unusable: see there.
        Transient: no server answers.
    """

    def __init__(
        self,
        url: str,
        profile: str = "development",
        listeners: Sequence[Any] = (),
        *,
        advisor: Advisor | None = None,
        prepare: bool = True,
    ) -> None:
        self.name = database_name(url)
        self.watch = Watch(advisor) if advisor else None
        client = client_of(url, {**OPTIONS[profile], "event_listeners": list(listeners)})
        self._outage, self._advisor = Outage(TIMEOUT_MS / 1_000), advisor
        try:
            self._client = client
            self._codec: CodecOptions[Document] = CodecOptions(tz_aware=True)
            self._database = client.get_database(self.name, self._codec, ReadPreference.PRIMARY)
            self._prepare(user_of(url), make=prepare)
            if advisor:
                advisor.asks(Asker(self.ask))
        except BaseException:
            client.close()
            raise

    @property
    def database(self) -> Database[Document]:
        """The driver's own, for what is asked of the database as a whole."""
        return self._database

    def collection(self, name: str) -> Collection[Document]:
        """A collection of the database."""
        return self._database[name]

    def command(self, name: str) -> Document:
        """The answer to a command that has no arguments."""
        return self.call(lambda: self._client.admin.command(name, codec_options=self._codec))

    def now(self) -> float:
        """See `JobStore.now`. Asked from the server each time: processes with a reading of their own would disagree by milliseconds."""
        return float(self.command("hello")["localTime"].timestamp())

    def ask(self, command: Document) -> Document:
        """The answer of this database to a command."""
        return self.call(lambda: self._database.command(command))

    def call(self, once: Callable[[], T]) -> T:
        """What `once` returns; it is called again when the connection broke soon under it, and must be harmless to repeat.

        Raises:
            Rejected: a document of it is too large, or holds what no document can.
            Transient: the server did not do it, or did not say so. While it is known to be silent, at once.
        """
        self._outage.check()
        begun, silent = time.monotonic(), None
        try:
            try:
                return once()
            except ServerSelectionTimeoutError:
                raise
            except (AutoReconnect, DuplicateKeyError):  # two upserts of one document at once: the second now finds it
                if time.monotonic() - begun > REPEAT_WITHIN_S:
                    raise
                return once()
        except (BSONError, OverflowError) as error:  # said before anything of the batch was sent, or after what went well
            raise (too_large() if isinstance(error, DocumentTooLarge) else unwritable()) from None
        except PyMongoError as error:
            if isinstance(error, BulkWriteError) and any(each["code"] in _TOO_LARGE for each in error.details["writeErrors"]):
                raise too_large() from None
            # Not as its cause: the driver's errors quote the documents they are about, and URLs carry tokens.
            transient = self._transient(error)
            if isinstance(error, ConnectionFailure):
                silent = transient
            raise transient from None
        finally:
            self._outage.note(silent)

    def close(self) -> None:
        """Close all connections; idempotent."""
        if self._advisor:
            self._advisor.close()
        self._client.close()

    def _prepare(self, user: str | None, *, make: bool) -> None:
        """Look at the server's version, and make indexes and counters, which also shows that we may write."""
        try:
            with pymongo.timeout(self._client.options.server_selection_timeout):
                version = self._client.admin.command("buildInfo")["version"]
            if int(version.partition(".")[0]) < VERSION_MIN:
                raise Unusable(TOO_OLD.format(version))
            if not make:
                return
            if self.collection(RESTORING).find_one():
                raise Unusable(f"the database {self.name!r} is half restored; restore it again: haul backup restore NAME --yes")
            for name, indexes in INDEXES.items():
                self.collection(name).create_indexes(list(indexes))
            add(self.collection(COUNTERS), [{"_id": name, "n": 0} for name in (JOBS, RUNS)])
        except PyMongoError as error:
            if reason := refusal(error, self.name, user):
                raise Unusable(reason) from None
            raise self._transient(error) from None

    def _transient(self, error: PyMongoError) -> Transient:
        return Transient("store", f"MongoDB database {self.name!r}: {told(error)}")


def add(collection: Collection[Document], rows: list[Document]) -> list[Any]:
    """Add the rows that are not there; the ids of those that clashed with one that is."""
    try:
        collection.insert_many(rows, ordered=False)
    except BulkWriteError as error:
        refused = error.details["writeErrors"]
        if error.details["writeConcernErrors"] or any(each["code"] != _DUPLICATE_KEY for each in refused):
            raise
        return [rows[each["index"]]["_id"] for each in refused]
    return []
