"""The records of jobs, leases and runs: implementations of `worker.ports.JobStore`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.ports import JobStore
from worker.settings import SettingsError
from worker.store.sqlite import SqliteStore

SQLITE = "sqlite:///"
FIX = "use sqlite:///absolute/path, or leave it unset"


def open_store(url: str, *, clock: Callable[[], float] | None = None) -> JobStore:
    """Open the store a URL names, making it when it is not there. Call it once per process, after a fork.

    Args:
        url: `sqlite:///absolute/path`; the path is taken as it is written, nothing in it is decoded.
        clock: replaces the store's own clock, in tests.

    Raises:
        SettingsError: the URL, or what lies at its place, cannot be used; the message names `HAUL_STORE_URL`.
        Transient: the store is there and does not answer.
    """
    path = url.removeprefix(SQLITE).lstrip("/")
    if url.startswith(SQLITE) and path:
        return _sqlite(Path("/", path), clock)
    scheme, colon, _ = url.partition(":")
    if scheme in ("mongodb", "mongodb+srv"):
        raise SettingsError(f"HAUL_STORE_URL: this version stores in SQLite only; {FIX}")
    raise SettingsError(f"HAUL_STORE_URL: {scheme + colon if colon else 'the value'} is not the address of a store; {FIX}")


def _sqlite(path: Path, clock: Callable[[], float] | None) -> SqliteStore:
    try:
        return SqliteStore(path, clock)
    except OSError as error:
        raise SettingsError(f"HAUL_STORE_URL: {path} cannot be opened: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"HAUL_STORE_URL: {path} {error}") from None
