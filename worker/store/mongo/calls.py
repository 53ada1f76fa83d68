"""Calls to a MongoDB in the course of a long work: each may take long, and is made again while what it fails of may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pymongo
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from worker.jobs.errors import Rejected
from worker.patience import Patience
from worker.ports import Hopeless
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.documents import Document
from worker.store.mongo.errors import told

T = TypeVar("T")

#: One answer of the server: one that may have to sort or to build an index; and one to a batch.
ANSWER_S, BATCH_S = 300.0, 60.0
#: To the removal or renaming of a collection, which a `mongod` does at once, and another server document by document.
WHOLE_S = 1800.0
#: For a server to be found; who waits longer says so between two tries.
SELECT_S = 5.0
UNAUTHORIZED = 13
#: What a server answers that is busy, shuts down, or is no primary any more; and of a cursor or a time that is over.
PASSING = frozenset(
    {6, 7, 24, 43, 46, 50, 64, 89, 91, 112, 117, 133, 134, 175, 189, 202, 237, 262, 314, 462}
    | {9001, 10058, 10107, 11600, 11601, 11602, 12587, 13435, 13436}
)
_LABELS = ("RetryableWriteError", "TransientTransactionError", "RetryableError", "SystemOverloadedError")


class MongoCalls:
    """One database and the patience that its calls are made with.

    Attributes:
        connection: for what is asked elsewhere.
        database: the driver's own; only to be used within `ask`.
        patience: for steps of several calls.
    """

    def __init__(self, connection: MongoConnection, patience: Patience) -> None:
        self.connection, self.patience = connection, patience
        self.database: Database[Document] = connection.database
        self.name = connection.name

    def collection(self, name: str) -> Collection[Document]:
        """A collection of the database."""
        return self.connection.collection(name)

    def ask(self, once: Callable[[], T], answer_s: float | None = None) -> T:
        """What `once` returns, which is called again after passing faults and has to be harmless to repeat.

        Args:
            answer_s: the longest that one call takes; None is `ANSWER_S`.

        Raises:
            Rejected: the user may not.
            Hopeless: the server would say the same again.
            Transient: it did not answer, or was busy, for longer than the patience lasts.
        """
        return self.patience.tried(lambda: self.connection.call(lambda: self._bounded(once, answer_s or ANSWER_S)))

    @classmethod
    def to(cls, url: str, profile: str, patience: Patience) -> MongoCalls:
        """Connect to the database at an address. Raises as `ask`, and SettingsError."""
        # The driver would try again by itself for as long as a call may take, and nobody would be told why nothing goes on.
        parts = urlsplit(url)
        said = parts.query.lower()
        ours = [f"{name}=false" for name in ("retryReads", "retryWrites") if f"{name.lower()}=" not in said]
        alone = urlunsplit(parts._replace(path=parts.path or "/", query="&".join(filter(None, [parts.query, *ours]))))
        return cls(patience.tried(lambda: MongoConnection(alone, profile, prepare=False)), patience)

    def close(self) -> None:
        """Close all connections; idempotent."""
        self.connection.close()

    def _bounded(self, once: Callable[[], T], answer_s: float) -> T:
        try:
            with pymongo.timeout(SELECT_S):
                self.database.client.is_primary  # noqa: B018 - asks nobody when a server is known
            with pymongo.timeout(answer_s):
                return once()
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code == UNAUTHORIZED:
                words = f"the user may not work on the database {self.name!r}"
                raise Rejected("store", words, fix="give it the role readWrite there") from None
            if not passes(error):
                raise Hopeless("store", f"MongoDB database {self.name!r}: {told(error)}") from None
            raise


def passes(error: PyMongoError) -> bool:
    """True when the same call may succeed later."""
    if isinstance(error, ConnectionFailure) or error.timeout or any(map(error.has_error_label, _LABELS)):
        return True
    if isinstance(error, BulkWriteError):
        said: list[Any] = [*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ())]
        return all(each.get("code") in PASSING for each in said)
    return isinstance(error, OperationFailure) and error.code in PASSING
