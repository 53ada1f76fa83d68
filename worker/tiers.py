"""The limits in force: the operator's file of tiers, and upon it what was set at run time; both are looked at again every 2 s.

Whatever is wrong with a change leaves the limits as they were, is logged once, and is shown as `fault`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker import logs
from worker.jobs.errors import Transient
from worker.jobs.limits import WrongLimit
from worker.jobs.tiers import Limits, Tier
from worker.jobs.tiers_file import extended, parse
from worker.ports import JobStore
from worker.settings import SettingsError

#: So long after a change everybody that works goes by it.
LOOK_EVERY_S = 2.0
FILE_BYTES_MAX = 1 << 20

log = logs.get(__name__)


class LiveTiers:
    """Implements `ports.Tiers`; one a process, for all its threads.

    Args:
        path: the file of tiers; None for the four default tiers.
        store: what was set at run time is in it.
    """

    def __init__(self, path: Path | None, store: JobStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path, self._store, self._monotonic = path, store, monotonic
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: object = None
        self._base = Limits()
        self._overrides: Mapping[str, Any] = {}
        self._was_good = path is None
        self._faults: dict[str, str] = {}
        self._read_file()
        self._limits = self._base

    @property
    def fault(self) -> str | None:
        """See `ports.Tiers`."""
        return "; ".join(self._faults.values()) or None

    def of(self, tier: str, user: str) -> Tier:
        """See `ports.Tiers`."""
        return self._limits.of(tier, user)

    def fresh(self) -> Limits:
        """See `ports.Tiers`. Of several threads one looks, and the others do not wait for it."""
        if self._monotonic() - self._looked_at >= LOOK_EVERY_S and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looked_at = self._monotonic()
                self._lock.release()
        if not self._was_good:
            raise Transient("limits", self._faults.get("file", "HAUL_TIERS: cannot be read"))
        return self._limits

    def _look(self) -> None:
        self._read_file()
        try:
            self._overrides = self._store.limits()
        except Transient as error:
            log.info("limits set at run time cannot be read; the last ones stay in force", error=str(error))
        self._limits, unreadable = extended(self._base, self._overrides)
        self._note("store", f"limits set at run time are left out: {'; '.join(unreadable)}" if unreadable else None)

    def _read_file(self) -> None:
        """Read the file when it is another one than last time."""
        if self._path is None:
            return
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if seen == self._seen:
                    return
                self._base, self._was_good = parse(_text(file.read(FILE_BYTES_MAX + 1))), True
                self._note("file", None)
        except OSError as error:
            seen = None
            self._note("file", f"HAUL_TIERS: cannot read {self._path}: {error.strerror}")
        except WrongLimit as wrong:
            self._note("file", f"HAUL_TIERS: {self._path}, {wrong}")
        self._seen = seen

    def _note(self, where: str, fault: str | None) -> None:
        if fault is None:
            if self._faults.pop(where, None):
                log.info("limits can be read again", where=where)
        elif self._faults.get(where) != fault:
            self._faults = {**self._faults, where: fault}
            log.error("limits cannot be read; those before stay in force", where=where, fault=fault)


def check_file(path: Path | None) -> None:
    """Refuse to start with a file of tiers that cannot be read; raises SettingsError, which names line, field and fix."""
    if path is not None:
        try:
            parse(_text(path.read_bytes()))
        except OSError as error:
            raise SettingsError(f"HAUL_TIERS: cannot read {path}: {error.strerror}") from None
        except WrongLimit as wrong:
            raise SettingsError(f"HAUL_TIERS: {path}, {wrong}") from None


def _text(content: bytes) -> str:
    if len(content) > FILE_BYTES_MAX:
        raise WrongLimit("", f"is longer than {FILE_BYTES_MAX} bytes", "leave out users that need nothing of their own")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise WrongLimit("", "is not a text in UTF-8", "save it as UTF-8", line) from None
