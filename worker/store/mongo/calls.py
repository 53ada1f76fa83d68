"""Calls to a MongoDB in the course of a long work: each may take long, and is made again while what it fails of may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

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

#: One answer of the server: one that may have to sort, to build an index or to remove a collection; and one to a batch.
ANSWER_S, BATCH_S = 300.0, 60.0
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

    def close(self) -> None:
        """Close all connections; idempotent."""
        self.connection.close()

    def _bounded(self, once: Callable[[], T], answer_s: float) -> T:
        with pymongo.timeout(answer_s):
            try:
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
