"""An installation with records, and the command `haul backup` on it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.integration.ended import Ended
from tests.integration.grown import everything, grow
from worker.maintenance.backup.catalogue import Shelf
from worker.store import open_store

JOBS = 160
TIMEOUT_S = 90.0


class Installation:
    """A data directory with a store; `haul` runs `haul backup` in a process of its own."""

    def __init__(self, directory: Path, url: str = "", jobs: int = JOBS) -> None:
        self.data = directory / "data"
        self.data.mkdir(parents=True)
        self.file = self.data / "haul.db"
        self.url = url or f"sqlite:///{self.file}"
        self.backups = self.data / "backups"
        self.environment = {"HAUL_DATA_DIR": str(self.data), "HAUL_STORE_URL": self.url, "HAUL_BACKUP_RATE": "0", "HAUL_ENGINES": ""}
        if jobs:
            with closing(open_store(self.url)) as store:
                grow(store, jobs)

    def haul(self, *arguments: str, **environment: str) -> Ended:
        command = [sys.executable, "-m", "worker.cli", "backup", *arguments]
        found = {**os.environ, **self.environment, **environment}
        ran = subprocess.run(command, env=found, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        return Ended(ran.returncode, ran.stdout, ran.stderr)

    def names(self, directory: Path | None = None) -> list[str]:
        """The backups that are listed as good, newest first."""
        return [entry.name for entry in Shelf(directory or self.backups).entries() if entry.good]

    def everything(self) -> Any:
        with closing(open_store(self.url)) as store:
            return everything(store)

    def hidden(self, directory: Path | None = None) -> list[str]:
        """What is left of dead runs."""
        kinds = (".making-", ".copying-", ".removing-", ".trying-")
        return [entry.name for entry in (directory or self.backups).iterdir() if entry.name.startswith(kinds)]
