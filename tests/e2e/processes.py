"""The processes of a stack: workers, and programs beside them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.waiting import eventually
from worker.cli.servers import tether
from worker.settings import load


class Worker(Protocol):
    """A worker process with a supervisor in it."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None:
        """SIGKILL, and wait."""

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""

    def ended(self) -> int | None:
        """The exit code, or None while it runs."""


class Program:
    """A Python program of the stack (`python -m …`) in a process of its own; its log goes to the stack's, it ends when we do."""

    def __init__(self, environment: Mapping[str, str], log: Path, *program: str) -> None:
        module = [sys.executable, "-W", "ignore", "-m", *program]
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *module]
        with log.open("ab") as sink:
            self._process = subprocess.Popen(tethered, env={**os.environ, **environment}, stdout=sink, stderr=sink)

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        self._process.terminate()
        return self._process.wait(60)

    def ended(self) -> int | None:
        return self._process.poll()


class CeleryWorker(Program):
    """`celery -A worker worker -P threads --supervise`, as an operator starts it."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        super().__init__(environment, log, "celery", "-A", "worker", "worker", "-P", "threads", "-c", "4", "--supervise")


#: `multiprocessing` looks after every child at each start; two threads that read one child's end lose its exit code.
_REAPING = threading.Lock()


class ForkedWorker:
    """`run_worker` in a fork of a process that has loaded it: up in a tenth of the time."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["worker.celery", "worker.tasks", "worker.coordination.redis", "worker.engines.registry", "worker.store", "celery.app.amqp"]
        )
        self._process = context.Process(target=_work, args=(dict(environment), str(log), os.getpid()), daemon=True)
        with _REAPING:
            self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def kill(self) -> None:
        self._process.kill()
        eventually(lambda: self.ended() is not None, "a killed worker is gone")

    def stop(self) -> int:
        self._process.terminate()
        eventually(lambda: self.ended() is not None, "a stopped worker is gone")
        return int(self._process.exitcode if self._process.exitcode is not None else -1)

    def ended(self) -> int | None:
        with _REAPING:
            return self._process.exitcode


def _work(environment: dict[str, str], log: str, parent: int) -> None:
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.environ.update(environment)
    from worker import logs
    from worker.celery import run_worker

    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    sys.exit(run_worker(settings))
