"""A directory of backups: what is there, who works in it, and what a dead run has left.

A backup is a directory with a name of time. Whatever is being made, copied or removed has a hidden name, so it is in no list, and
whoever holds the directory next removes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.jobs.errors import Failed, NotFound, Rejected, Transient
from worker.maintenance.backup.durable import synced
from worker.maintenance.backup.faults import Damaged, Unreadable, disk
from worker.maintenance.backup.manifest import Manifest, read_manifest

MAKING, COPYING, REMOVING, TRYING = ".making-", ".copying-", ".removing-", ".trying-"
#: In the directory of a backup that was found damaged: why.
DAMAGED = "damaged"
NEWEST = "latest"

_NAME = re.compile(r"(\d{8}T\d{6})Z(-\d{1,3})?")
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Entry:
    """One backup.

    Attributes:
        at: when it was made, seconds since the epoch.
        manifest: None when it cannot be read.
        damaged: why it is no good, as far as anybody has found out; None for a good one: each was verified before it got its name.
        known: False when it cannot be told here whether it is any good: it may not be read, or is of another version.
    """

    name: str
    path: Path
    at: float
    manifest: Manifest | None
    damaged: str | None
    known: bool = True

    @property
    def good(self) -> bool:
        """True when it can be restored, as far as is known."""
        return self.manifest is not None and self.damaged is None


class Shelf:
    """One directory of backups."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def held(self) -> Iterator[None]:
        """Work in the directory alone; leftovers of dead runs are removed first.

        Raises:
            Transient: another process works in it.
            NotBackedUp: it cannot be made or written.
        """
        with disk(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Transient("backup", f"another process works in {self.directory}; try again when it has ended") from None
            with disk(self.directory):
                self._tidy()
            yield
        finally:
            os.close(lock)

    def entries(self) -> list[Entry]:
        """The backups, newest first."""
        try:
            names = [entry.name for entry in os.scandir(self.directory) if _NAME.fullmatch(entry.name) and entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Failed("disk", f"{self.directory} cannot be read: {error.strerror}") from None
        return sorted(map(self._entry, names), key=lambda entry: (entry.at, entry.name), reverse=True)

    def find(self, name: str) -> Entry:
        """The backup of this name; `latest` is the newest good one.

        Raises:
            NotFound: there is none.
        """
        entries = self.entries()
        found = next((entry for entry in entries if (entry.good if name == NEWEST else entry.name == name)), None)
        if found is None:
            what = "no good backup" if name == NEWEST else f"no backup {name}"
            raise NotFound(
                "backup", f"there is {what} in {self.directory}", fix="`haul backup list` shows them, `haul backup create` makes one"
            )
        return found

    def fresh_name(self, at: float) -> str:
        """A name for a backup of this time that nothing has."""
        stem = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
        names = (stem + (f"-{number}" if number else "") for number in range(1000))
        return next(name for name in names if not (self.directory / name).exists())

    def begun(self, kind: str, name: str) -> Path:
        """A hidden directory to work in, empty."""
        path = self.directory / f"{kind}{name}"
        path.mkdir(mode=0o700)
        return path

    def finished(self, path: Path, name: str) -> Path:
        """Give what was made its name; from now on it is a backup, also after a loss of power."""
        synced(path)
        final = self.directory / name
        os.rename(path, final)
        synced(self.directory)
        return final

    def hidden(self, name: str) -> Path:
        """Take a backup out of the list, at once; its files are to be removed."""
        gone = self.directory / f"{REMOVING}{name}"
        os.rename(self.directory / name, gone)
        synced(self.directory)
        return gone

    def note(self, what: str, values: Mapping[str, Any]) -> None:
        """Write down what happened last."""
        path = self.directory / f".{what}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"at": time.time(), **values}), encoding="utf-8")
        os.replace(fresh, path)

    def noted(self, what: str) -> dict[str, Any]:
        """What happened last; empty when nothing did."""
        try:
            found = json.loads((self.directory / f".{what}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _entry(self, name: str) -> Entry:
        path = self.directory / name
        match = _NAME.fullmatch(name)
        assert match
        try:
            at = datetime.strptime(match[1] + "+0000", "%Y%m%dT%H%M%S%z").timestamp()
        except ValueError:
            at = 0.0
        manifest, damaged, known = None, None, True
        try:
            manifest = read_manifest(path)
            if (path / DAMAGED).exists():
                damaged = (path / DAMAGED).read_text(encoding="utf-8", errors="replace").strip() or "it was found damaged"
        except (Damaged, Rejected) as error:
            damaged, known = str(error), isinstance(error, Damaged) and not isinstance(error, Unreadable)
        except OSError as error:
            manifest, damaged, known = None, f"it cannot be read: {error.strerror}", False
        return Entry(name, path, manifest.at if manifest else at, manifest, damaged, known)

    def _tidy(self) -> None:
        for entry in list(os.scandir(self.directory)):
            if entry.name.startswith((MAKING, COPYING, REMOVING, TRYING)):
                shutil.rmtree(entry.path, ignore_errors=True)
