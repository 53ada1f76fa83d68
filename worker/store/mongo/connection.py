"""The connection to a MongoDB database: options by profile, what is checked when it is opened, and errors in our words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote_plus

import pymongo
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)
from pymongo.uri_parser import split_options

from worker.jobs.errors import Transient
from worker.pools import POOLS, STORE_IDLE_S
from worker.store.advisor import Advisor
from worker.store.mongo.documents import Document
from worker.store.mongo.queries import COUNTERS, INDEXES, JOBS, RUNS
from worker.store.mongo.watch import Asker, Watch
from worker.store.outage import Outage
from worker.store.refusals import too_large, unwritable

T = TypeVar("T")

#: The name of the database when the address has none.
DATABASE = "haul"
VERSION_MIN = 5
TOO_OLD = f"the server is MongoDB {{}}, and Haul needs {VERSION_MIN}.0 or later; upgrade the server"
#: A collection that is there while collections are replaced, and behind a restore that was killed then.
RESTORING = "haul_restoring"
TIMEOUT_MS = 10_000
#: A connection that breaks so soon is worth another try; a call that waited longer has had its time.
REPEAT_WITHIN_S = 2.0

_ALWAYS: Mapping[str, Any] = {
    "appName": "haul",
    "journal": True,
    "timeoutMS": TIMEOUT_MS,  # a whole call: with the choice of a server, the wait for a connection and for other members
    "wTimeoutMS": TIMEOUT_MS,  # these three are of use to an address that has timeoutMS=0
    "waitQueueTimeoutMS": TIMEOUT_MS,
    "socketTimeoutMS": TIMEOUT_MS,
    "connectTimeoutMS": 5_000,
    "maxIdleTimeMS": int(STORE_IDLE_S * 1_000),
}

#: Options of the driver by `HAUL_PROFILE`; those in the address go before them. For a server, `serverSelectionTimeoutMS` is
#: waited when the store is opened; later `timeoutMS`, which is to be longer than an election takes.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    name: {
        **_ALWAYS,
        "w": 1 if name == "development" else "majority",
        "maxPoolSize": pools.store,
        "serverSelectionTimeoutMS": int(pools.select_s * 1_000),
    }
    for name, pools in POOLS.items()
}

_DUPLICATE_KEY = 11000
#: What a server says of a document that became too large.
_TOO_LARGE = (10334, 17419, 17420)
#: Error codes of the server that trying again does not help, when the store is opened.
_UNAUTHORIZED = 13
_BAD_LOGIN = (18, 8000)  # the second is Atlas's
_BAD_NAME = 73
_OTHER_INDEX = (85, 86)

_NAME = re.compile(r"""[^/\\. "$*<>:|?\0]+""")
_NAME_BYTES_MAX = 63
_SERVERS_OWN = ("admin", "config", "local")


class Unusable(Exception):
    """The address cannot be used as it is; the message says why and what to do, and names no password."""


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
        client = _client(url, {**OPTIONS[profile], "event_listeners": list(listeners)})
        self._outage, self._advisor = Outage(TIMEOUT_MS / 1_000), advisor
        try:
            self._client = client
            self._codec: CodecOptions[Document] = CodecOptions(tz_aware=True)
            self._database = client.get_database(self.name, self._codec, ReadPreference.PRIMARY)
            self._prepare(_user(url), make=prepare)
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
            if reason := self._refusal(error, user):
                raise Unusable(reason) from None
            raise self._transient(error) from None

    def _refusal(self, error: PyMongoError, user: str | None) -> str | None:
        """Why the server will never have us, or None."""
        if isinstance(error, ConfigurationError) and error.__cause__ is None:
            # Of a server that is too old for the driver already, the driver names the version that would do for it alone.
            return TOO_OLD.format("of an early version") if "wire version" in str(error) else str(error)
        code = error.code if isinstance(error, OperationFailure) else None
        if user is None and code in (_UNAUTHORIZED, *_BAD_LOGIN):
            return "the server asks for a user; put user:password@ before the host, special characters percent-encoded"
        if code in _BAD_LOGIN:
            return f"the server does not know the user {user!r} by this password; check both, and authSource (the user's database)"
        if code == _UNAUTHORIZED:
            return f"the user {user!r} may not use the database {self.name!r}; give it the role readWrite there"
        if code == _BAD_NAME:
            return f"the server refuses {self.name!r} as the name of a database"
        if code in _OTHER_INDEX:
            return f"the database {self.name!r} has other indexes under the names of ours; drop them, or use another database"
        return None

    def _transient(self, error: PyMongoError) -> Transient:
        return Transient("store", f"MongoDB database {self.name!r}: {_words(error)}")


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


def database_name(url: str) -> str:
    """The database an address names, or `DATABASE`. Raises Unusable for a name that cannot be."""
    path = url.partition("://")[2].partition("?")[0].partition("/")[2]
    if "@" in path:
        raise Unusable("special characters in the user and the password have to be percent-encoded (/ is %2F)")
    name = unquote_plus(path) or DATABASE
    if not _NAME.fullmatch(name) or len(name.encode()) > _NAME_BYTES_MAX:
        raise Unusable(f"{name!r} cannot be the name of a database; use letters, digits and -_, at most {_NAME_BYTES_MAX}")
    if name in _SERVERS_OWN:
        raise Unusable(f"{name!r} is the server's own database; name another, as in mongodb://user:password@host/haul?authSource={name}")
    return name


def _client(url: str, options: Mapping[str, Any]) -> MongoClient[Document]:
    query = url.partition("?")[2]
    try:
        given = split_options(query) if query else {}
    except (ConfigurationError, ValueError, TypeError, OSError) as error:
        if "@" in query:  # a question mark in a password, of which no part is to be shown
            raise Unusable("special characters in the user and the password have to be percent-encoded (? is %3F)") from None
        raise Unusable(str(error)) from None
    if given.get("w") == 0:
        raise Unusable("with w=0 nobody would know what is recorded; take it out of the address")
    ours = {name: value for name, value in options.items() if name.lower() not in given}
    try:
        return MongoClient(url, connect=False, **ours)
    except (ConfigurationError, ValueError, TypeError, OSError) as error:
        # What the driver says of the rest of an address may quote a piece of a password.
        words = "it is no address of a MongoDB; special characters in the user and the password have to be percent-encoded"
        raise Unusable(words if "@" in url else str(error)) from None


def _user(url: str) -> str | None:
    login, at, _ = url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")
    return unquote_plus(login.partition(":")[0]) if at else None


def _words(error: PyMongoError) -> str:
    """What happened, in words that quote neither documents nor addresses with secrets."""
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
