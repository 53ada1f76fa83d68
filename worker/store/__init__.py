"""The records of jobs, leases and runs: implementations of `worker.ports.JobStore`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.metrics import Metrics
from worker.ports import Archive, JobStore
from worker.settings import SettingsError
from worker.store.advisor import Advisor
from worker.store.sqlite.store import SqliteStore

SQLITE = "sqlite:///"
MONGODB = ("mongodb://", "mongodb+srv://")
FIX = "use sqlite:///absolute/path or mongodb://host/database, or leave it unset"


def open_store(
    url: str,
    *,
    profile: str = "development",
    clock: Callable[[], float] | None = None,
    metrics: Metrics | None = None,
    advisor: Advisor | None = None,
) -> JobStore:
    """Open the store a URL names, making it when it is not there. Call it once per process, after a fork.

    Args:
        url: `sqlite:///absolute/path`; the path is taken as it is written, nothing in it is decoded.
            `mongodb://…` and `mongodb+srv://…` are as MongoDB's drivers read them; without a database it is `haul`.
        profile: `HAUL_PROFILE`; chooses write concern, pool and time-outs of a MongoDB, where the URL does not.
        advisor: sees every operation; it is closed with the store.
        clock: replaces the clock of an SQLite store, in tests; a MongoDB keeps its own.
        metrics: where the connections to a MongoDB are counted.

    Raises:
        SettingsError: the URL, or what lies at its place, cannot be used; the message names `HAUL_STORE_URL`.
        Transient: the store is there and does not answer.
    """
    if path := sqlite_path(url):
        return _sqlite(path, clock, advisor)
    if url.startswith(MONGODB):
        return _mongo(url, profile, metrics, advisor)
    scheme, colon, _ = url.partition(":")
    raise SettingsError(f"HAUL_STORE_URL: {scheme + colon if colon else 'the value'} is not the address of a store; {FIX}")


def sqlite_path(url: str) -> Path | None:
    """The file that the URL of an SQLite store names; None for other URLs."""
    path = url.removeprefix(SQLITE).lstrip("/")
    return Path("/", path) if url.startswith(SQLITE) and path else None


def _sqlite(path: Path, clock: Callable[[], float] | None, advisor: Advisor | None) -> SqliteStore:
    try:
        return SqliteStore(path, clock, advisor)
    except OSError as error:
        raise SettingsError(f"HAUL_STORE_URL: {path} cannot be opened: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"HAUL_STORE_URL: {path} {error}") from None


def _mongo(url: str, profile: str, metrics: Metrics | None, advisor: Advisor | None) -> JobStore:
    # The driver takes a fifth of a second to load, which commands on SQLite need not wait for.
    from worker.store.mongo.address import Unusable
    from worker.store.mongo.connection import MongoConnection
    from worker.store.mongo.pool_events import PoolEvents
    from worker.store.mongo.store import MongoStore

    _not_of_drills(url)
    try:
        return MongoStore(MongoConnection(url, profile, [PoolEvents(metrics)] if metrics else [], advisor=advisor))
    except Unusable as error:
        raise SettingsError(f"HAUL_STORE_URL: {error}") from None


def _not_of_drills(url: str) -> None:
    """Raise SettingsError for the name of a database that a drill of the one beside it would take for its own, and delete."""
    from worker.store.mongo.address import Unusable, database_name
    from worker.store.mongo.load import TRIAL

    try:
        if (name := database_name(url)).endswith(TRIAL):
            raise Unusable(f"{name!r} is what restore drills delete; name another database")
    except Unusable as error:
        raise SettingsError(f"HAUL_STORE_URL: {error}") from None


def open_archive(url: str, profile: str = "development") -> Archive:
    """The store a URL names as a whole, for backups; connects only when it is used.

    Raises:
        SettingsError: the URL is not the address of a store.
    """
    from worker.store.sqlite.archive import SqliteArchive

    if path := sqlite_path(url):
        return SqliteArchive(path)
    if url.startswith(MONGODB):
        from worker.store.mongo.dump import MongoArchive

        _not_of_drills(url)
        return MongoArchive(url, profile)
    raise SettingsError(f"HAUL_STORE_URL: the value is not the address of a store; {FIX}")
