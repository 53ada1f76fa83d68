"""A stack whose engines stand in a file, of which some are added and taken out while it runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.engines import Aria2, aria2c_program
from tests.e2e.stack import Stack, digest
from worker import pipeline
from worker.cli.servers import start_aria2c
from worker.jobs.states import State

SIZE, RATE = 400_000, 200_000


class Pool(Stack):
    """A stack whose engines stand in a file: `aria2` to begin with."""

    @property
    def file(self) -> Path:
        return self.directory / "engines"

    def write(self, *names: str) -> None:
        lines = [f"{self.engines[name].server.url}?name={name}&slots={self.slots}&dir={self.downloads}" for name in names]
        fresh = self.directory / "engines.new"
        fresh.write_text("# of this test\n" + "\n".join(lines) + "\n")
        fresh.chmod(0o600)
        fresh.replace(self.file)

    def environment(self) -> dict[str, str]:
        if not self.file.exists():
            self.write(*self.engines)
        found = super().environment()
        del found["HAUL_ENGINES"]
        return {**found, "HAUL_ENGINES_FILE": str(self.file)}

    def second(self) -> Aria2:
        """Start another aria2c, on the same volume; it is not in the file yet."""
        directory = self.directory / "b"
        directory.mkdir()
        server = start_aria2c(aria2c_program(), directory, self.downloads, slots=self.slots)
        self._held.callback(server.stop)
        self.engines["aria2-b"] = engine = Aria2(server)
        return engine

    def ask_files(self, n: int, rate: int = RATE) -> dict[str, int]:
        """So many jobs that take two seconds each, with their seeds."""
        ids = self.ask_all([{"uri": f"file/{seed}.bin?size={SIZE}&seed={seed}&rate={rate}", "user": f"u{seed}"} for seed in range(n)])
        return {id: seed for seed, id in enumerate(ids)}

    def running(self, engine: str) -> list[str]:
        jobs = self.services.store.at_engine(engine)
        return [job.id for job in jobs if job.state is State.DOWNLOADING]

    def state(self, engine: str) -> str:
        return next((str(each["state"]) for each in pipeline.overview(self.services)["engines"] if each["name"] == engine), "unknown")

    def haul(self, *words: str) -> Any:
        ran = [sys.executable, "-P", "-m", "worker.cli", *words]
        environment = {**self.environment(), "PATH": "/usr/bin:/bin"}
        return subprocess.run(ran, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def digest(self, seed: int) -> str:
        """SHA-256 of the file of a seed."""
        return digest(SIZE, seed)

    def check_all(self, ids: dict[str, int], names: Sequence[str]) -> None:
        jobs = self.until_all(list(ids), timeout_s=90)
        for job in jobs:
            self.check_delivered(job.id, digest(SIZE, ids[job.id]))
        assert {job.transfer.engine for job in jobs if job.transfer} == set(names)
