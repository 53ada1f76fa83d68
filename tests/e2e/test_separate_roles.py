"""Each role in a process of its own, as containers run them: a prefork worker, a supervisor, and the door of this process. No beat."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.e2e.stack import Stack, digest, eventually
from worker.cli.servers import free_port

#: Far less than beat's minute and a sweeper's ten seconds for each of the steps.
SOON_S = 15.0
STOP_S = 40.0
SIZE, SEED = 300_000, 11


class Role:
    """A program of the stack in its own process; its log goes to the stack's."""

    def __init__(self, stack: Stack, *program: str, **environment: str) -> None:
        known = {**os.environ, **stack.environment(), **environment}
        with stack.log.open("ab") as sink:
            self._process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", *program], env=known, stdout=sink, stderr=sink)

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        self._process.terminate()
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def roles(tmp_path: Path) -> Iterator[tuple[Stack, Role, str]]:
    """The stack with its worker, its supervisor, and where the supervisor answers probes."""
    probes = free_port()
    with ExitStack() as held:
        stack = held.enter_context(Stack(tmp_path / "stack"))
        supervisor = Role(stack, "worker.cli", "supervise", HAUL_METRICS_PORT=str(probes))
        held.callback(supervisor.kill)
        celery = ("celery", "-A", "worker", "worker", "--pool", "prefork", "--concurrency", "1", "--without-gossip", "--without-mingle")
        worker = Role(stack, *celery, HAUL_ALIVE_PATH=str(tmp_path / "alive"), REMAP_SIGTERM="SIGQUIT")
        held.callback(worker.kill)
        eventually(lambda: stack.owner() is not None and (tmp_path / "alive").exists(), "both roles are up", seen=stack.tail)
        yield stack, supervisor, f"http://127.0.0.1:{probes}"


def test_a_supervisor_alone_sends_the_messages_that_move_a_job(roles: tuple[Stack, Role, str], tmp_path: Path) -> None:
    stack, supervisor, probes = roles
    job = stack.ask(f"/file/apart?size={SIZE}&seed={SEED}", "ann")
    done = stack.until(job, "done", timeout_s=SOON_S)
    assert done.result is not None
    stack.check_delivered(job, digest(SIZE, SEED))

    health = requests.get(f"{probes}/health", timeout=5)
    assert health.status_code == 200
    assert set(health.json()["loops"]) == {"engine-aria2", "sweeper"}
    assert requests.get(f"{probes}/ready", timeout=5).status_code == 200
    assert "haul_tick_seconds_count" in requests.get(f"{probes}/metrics", timeout=5).text
    assert requests.get(f"{probes}/v1/jobs", timeout=5).status_code == 404, "it serves probes and nothing else"

    seen = (tmp_path / "alive").stat().st_mtime
    eventually(lambda: (tmp_path / "alive").stat().st_mtime > seen, "the worker's heart beats on", seen=stack.tail)
    assert time.time() - seen < SOON_S
    assert supervisor.stop() == 0
