"""What people are told of the driver's errors: what happened, and nothing of what was written."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from worker.store.mongo.errors import told

REFUSED = {"index": 0, "code": 10334, "codeName": "BSONObjectTooLarge", "errmsg": "secret", "op": {"uri": "https://host/?token=secret"}}
LATE = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "secret"}
TOPOLOGY = "a:1: [Errno 111] Connection refused (configured timeouts: x), Timeout: 3s, Topology Description: <secret>"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OperationFailure("secret", 13, {"code": 13, "codeName": "Unauthorized"}), "the server refused it (Unauthorized 13)"),
        (OperationFailure("secret", None, None), "the server refused it (error without a code)"),
        (
            BulkWriteError({"writeErrors": [REFUSED], "writeConcernErrors": [LATE]}),
            "the server refused it (BSONObjectTooLarge 10334)",
        ),
        (BulkWriteError({"writeErrors": [], "writeConcernErrors": [LATE]}), "the server refused it (WriteConcernFailed 64)"),
        (ServerSelectionTimeoutError(TOPOLOGY), "no server answers (a:1: [Errno 111] Connection refused)"),
        (ServerSelectionTimeoutError("No servers, Timeout: 3s, <secret>"), "no server answers (No servers)"),
        (WaitQueueTimeoutError("secret"), "all connections of this process were busy for too long"),
        (NetworkTimeout("secret"), "the server did not answer in time"),
        (AutoReconnect("secret"), "the connection broke"),
        (InvalidOperation("Cannot use MongoClient after close"), "it is closed in this process"),
        (InvalidOperation("secret"), "the driver gave up (InvalidOperation)"),
        (ConfigurationError("no answer of a.example"), "the host's DNS records cannot be read (no answer of a.example)"),
        (PyMongoError("secret"), "the driver gave up (PyMongoError)"),
    ],
)
def test_an_error_is_told_in_words_that_quote_no_document(error: PyMongoError, words: str) -> None:
    assert told(error) == words
