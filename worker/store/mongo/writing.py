"""One batch of documents on its way into a collection, which is not in doubt for longer than the connection is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from worker.jobs.errors import Failed
from worker.jobs.states import Cause

_DUPLICATE_KEY = 11000
SHOWN_CHARS = 100


class Writing:
    """Writes each document of a batch once, however often it is begun.

    Args:
        shown: the name of the collection, for people.
    """

    def __init__(self, collection: Collection[Any], rows: Sequence[RawBSONDocument], shown: str) -> None:
        self._collection, self._rows, self._shown = collection, rows, shown
        self._begun = False

    def write(self) -> None:
        """Write what is not there.

        Raises:
            Failed: another document is there under the `_id` of one of these, or holds what has to be unique.
        """
        rows = self._missing(self._rows) if self._begun else self._rows
        self._begun = True
        if not rows:
            return
        try:
            self._collection.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            refused = [each["index"] for each in error.details["writeErrors"] if each["code"] == _DUPLICATE_KEY]
            if len(refused) < len(error.details["writeErrors"]) or error.details["writeConcernErrors"]:
                raise
            # A write whose answer was lost may have gone on in the server meanwhile.
            for row in self._missing([rows[index] for index in refused]):
                raise self._taken(row) from None

    def _missing(self, rows: Sequence[RawBSONDocument]) -> list[RawBSONDocument]:
        """Those that are not there. Raises Failed when one is there that differs."""
        # What is there may be known to this server alone. An update that changes nothing waits for the members that the address
        # asks for, like any write, and with it for all that was written before.
        self._collection.update_one({"_id": {"$in": []}}, {"$set": {"x": 1}})
        found = self._collection.find({"_id": {"$in": [row["_id"] for row in rows]}})
        there = {_id_bytes(row): row.raw for row in found}
        for row in rows:
            if there.get(_id_bytes(row), row.raw) != row.raw:
                raise self._taken(row)
        return [row for row in rows if _id_bytes(row) not in there]

    def _taken(self, row: RawBSONDocument) -> Failed:
        shown = repr(row["_id"])[:SHOWN_CHARS]
        words = f"the collection {self._shown!r} has another document in the place of {shown}: somebody else writes there; keep them away"
        return Failed(Cause.DISK, f"{words}, and restore again")


def _id_bytes(row: RawBSONDocument) -> bytes:
    """The id with its type: 1 and 1.0 are one to the server."""
    return bson.encode({"": row["_id"]})
