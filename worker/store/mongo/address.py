"""The address of a MongoDB database: what it names, the driver's options beside it, and why one cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
)
from pymongo.uri_parser import split_options

from worker.pools import POOLS, STORE_IDLE_S
from worker.store.mongo.documents import Document

#: The name of the database when the address has none.
DATABASE = "haul"
TIMEOUT_MS = 10_000

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

_NAME = re.compile(r"""[^/\\. "$*<>:|?\0]+""")
_NAME_BYTES_MAX = 63
_SERVERS_OWN = ("admin", "config", "local")


class Unusable(Exception):
    """The address cannot be used as it is; the message says why and what to do, and names no password."""


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


def client_of(url: str, options: Mapping[str, Any]) -> MongoClient[Document]:
    """The driver's client of an address, not connected yet; options in the address go before ours. Raises Unusable."""
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


def user_of(url: str) -> str | None:
    """Who the address logs in as; None for nobody."""
    login, at, _ = url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")
    return unquote_plus(login.partition(":")[0]) if at else None
