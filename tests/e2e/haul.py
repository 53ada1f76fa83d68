"""The command `haul` on a machine of its own; each command is a real process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.stack import eventually
from worker.cli.lock import holder, running


class Haul:
    """The command on a data directory of its own.

    Attributes:
        out: where `get` is told to put files.
    """

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.out = directory / "out"
        self.environment = {**os.environ, "HAUL_DATA_DIR": str(self.data), "HAUL_API_PORT": "0", "COLUMNS": "200"}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command; its output is kept."""
        command = [sys.executable, "-m", "worker.cli", *arguments]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, env=self.environment, text=True, start_new_session=True, **options)

    def run(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.start(*arguments) as process:
            return self.end(process, timeout_s)

    def get(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`haul get` into `out`."""
        return self.run("get", *arguments, "--out", str(self.out))

    def json(self, *arguments: str) -> Any:
        """What a command that succeeds prints with --json."""
        result = self.run(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def end(self, process: subprocess.Popen[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The result of a command that was started."""
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"it did not end within {timeout_s:g} s\n{out}\n{err}\n{self.log()}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def log(self) -> str:
        """What the stack behind `get` logged."""
        log = self.data / "logs" / "haul.log"
        return log.read_text(errors="replace")[-5000:] if log.exists() else "(no log)"

    def leaves_nothing_running(self) -> None:
        """No process works on the data directory any more."""
        assert holder(self.data) is None
        assert not processes_of(self.data), processes_of(self.data)


def processes_of(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [os.readlink(link) for link in (entry / "fd").iterdir()]
            if any(link.startswith(str(directory)) for link in links):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


@contextlib.contextmanager
def stack_up(machine: Haul) -> Iterator[subprocess.Popen[str]]:
    """`haul up` on a machine, ready for jobs."""
    machine.data.mkdir(parents=True, exist_ok=True)
    with (machine.data / "up.log").open("w") as log, machine.start("up", stdout=log, stderr=log) as process:
        try:
            eventually(lambda: process.poll() is not None or ready(machine), "the stack is up")
            assert process.poll() is None, (machine.data / "up.log").read_text()
            yield process
        finally:
            process.terminate()
            process.wait(60)


def ready(machine: Haul) -> bool:
    stack = running(machine.data)
    if stack is None or stack.api_url is None:
        return False
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{stack.api_url}/ready", timeout=30).status_code == 200  # every engine answers
    return False
