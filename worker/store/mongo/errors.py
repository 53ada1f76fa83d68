"""The driver's errors in our words, which quote neither documents nor addresses with secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

VERSION_MIN = 5
TOO_OLD = f"the server is MongoDB {{}}, and Haul needs {VERSION_MIN}.0 or later; upgrade the server"
#: Error codes of the server that trying again does not help, when the store is opened.
_UNAUTHORIZED = 13
_BAD_LOGIN = (18, 8000)  # the second is Atlas's
_BAD_NAME = 73
_OTHER_INDEX = (85, 86)


def refusal(error: PyMongoError, name: str, user: str | None) -> str | None:
    """Why the server will never have us, or None.

    Args:
        name: of the database.
        user: None for nobody.
    """
    if isinstance(error, ConfigurationError) and error.__cause__ is None:
        # Of a server that is too old for the driver already, the driver names the version that would do for it alone.
        return TOO_OLD.format("of an early version") if "wire version" in str(error) else str(error)
    code = error.code if isinstance(error, OperationFailure) else None
    if user is None and code in (_UNAUTHORIZED, *_BAD_LOGIN):
        return "the server asks for a user; put user:password@ before the host, special characters percent-encoded"
    if code in _BAD_LOGIN:
        return f"the server does not know the user {user!r} by this password; check both, and authSource (the user's database)"
    if code == _UNAUTHORIZED:
        return f"the user {user!r} may not use the database {name!r}; give it the role readWrite there"
    if code == _BAD_NAME:
        return f"the server refuses {name!r} as the name of a database"
    if code in _OTHER_INDEX:
        return f"the database {name!r} has other indexes under the names of ours; drop them, or use another database"
    return None


def told(error: PyMongoError) -> str:
    """What happened."""
    if isinstance(error, InvalidOperation) and "after close" in str(error):
        return "it is closed in this process"
    if isinstance(error, ServerSelectionTimeoutError):
        return f"no server answers ({re.split(r' [(]configured timeouts|, Timeout: ', str(error), maxsplit=1)[0]})"
    if isinstance(error, WaitQueueTimeoutError):
        return "all connections of this process were busy for too long"
    if isinstance(error, BulkWriteError):
        return _refused(error.details.get("writeErrors") or error.details.get("writeConcernErrors") or [{}])
    if isinstance(error, OperationFailure):
        return _refused([error.details or {}])
    if isinstance(error, AutoReconnect):
        return "the server did not answer in time" if error.timeout else "the connection broke"
    if isinstance(error, ConfigurationError):
        return f"the host's DNS records cannot be read ({error})"
    return f"the driver gave up ({type(error).__name__})"


def _refused(errors: Sequence[Mapping[str, Any]]) -> str:
    return f"the server refused it ({errors[0].get('codeName', 'error')} {errors[0].get('code', 'without a code')})"
