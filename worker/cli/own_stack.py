"""The stack behind `haul get`: the one that runs here already, or one of its own that ends with the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from worker.cli.connect import POLL_S, build
from worker.cli.lock import holder, make, running
from worker.cli.servers import ServerFailed
from worker.ports import Services
from worker.settings import NoStack, Settings, SettingsError, child_environment
from worker.stack import Stack

#: Another stack may have to drain before ours can start.
STACK_TIMEOUT_S = 45.0
#: The child drains in 30 s at most; after that it is killed and its servers end with it.
CHILD_STOP_TIMEOUT_S = 35.0
LOG_BYTES_MAX = 16 * 1024 * 1024


class StackSession:
    """A context manager: services on a running stack, whoever runs it.

    Attributes:
        owned: the stack used last is ours and ends with the session.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: _Child | None = None
        self._services: Services | None = None
        self.owned = False

    @property
    def services(self) -> Services:
        """The services; valid until `restore` or the end of the session."""
        if self._services is None:
            raise RuntimeError("the session is not open")
        return self._services

    def __enter__(self) -> StackSession:
        """Attach, or start.

        Raises:
            SettingsError, ServerFailed: a stack could not be started, with the reason the child gave.
        """
        try:
            self._connect()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def lost(self) -> bool:
        """True when the stack has ended under us."""
        if not self._settings.needs_stack:
            return False
        return not self._child.alive if self._child else running(self._settings.data_dir) is None

    def restore(self) -> None:
        """Attach or start again, after the stack was lost."""
        self._end()
        self._connect()

    def _connect(self) -> None:
        stack = self._await_stack() if self._settings.needs_stack else None
        self._services = build(self._settings, stack)

    def _await_stack(self) -> Stack:
        data_dir = self._settings.data_dir
        deadline = time.monotonic() + STACK_TIMEOUT_S
        while time.monotonic() < deadline:
            if stack := running(data_dir):
                if self._child and self._child.pid != stack.pid:  # another one was quicker
                    self._stop_child()
                self.owned = self._child is not None
                return stack
            if holder(data_dir) is None:  # else it is just starting, or draining
                if self._child is None:
                    self._child, self.owned = _Child(self._settings), True
                    from worker import wiring  # noqa: F401 - needed in a moment, and loaded while the servers come up
                elif not self._child.alive:
                    raise self._child.reason()
            time.sleep(POLL_S)
        raise NoStack(f"no stack came up on {data_dir} within {STACK_TIMEOUT_S:g} s; see {log_file(self._settings)}")

    def _stop_child(self) -> None:
        child, self._child = self._child, None
        if child:
            child.stop()

    def _end(self) -> None:
        services, self._services = self._services, None
        try:
            if services:
                services.close()
        finally:
            self._stop_child()


class _Child:
    """`haul up` without API and schedule, which ends when the pipe it was given is closed, also by our death."""

    def __init__(self, settings: Settings) -> None:
        make(settings.data_dir)
        log = log_file(settings)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        full = log.exists() and log.stat().st_size > LOG_BYTES_MAX
        reader, self._writer = os.pipe()
        with log.open("wb" if full else "ab") as sink:
            self._log, self._begin = log, sink.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", "worker.cli", "up", "--while-open", str(reader)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=(reader,),
                start_new_session=True,  # a Ctrl-C on the terminal is for us; we stop it in order
                env=child_environment(settings),
            )
        os.close(reader)
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def reason(self) -> Exception:
        """Why it ended, as it said itself."""
        with self._log.open("rb") as file:
            file.seek(self._begin)
            lines = file.read().decode(errors="replace").splitlines()
        said = next((line.removeprefix("haul: ") for line in reversed(lines) if line.startswith("haul: ")), None)
        text = said or f"the stack ended with code {self._process.returncode}; see {self._log}"
        return SettingsError(text) if self._process.returncode == 2 else ServerFailed(text)

    def stop(self) -> None:
        """Close the pipe and wait until it has drained; a second Ctrl-C does not wait."""
        os.close(self._writer)
        try:
            self._process.wait(CHILD_STOP_TIMEOUT_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()


def log_file(settings: Settings) -> Path:
    """Where a stack that nobody watches writes its log."""
    return settings.data_dir / "logs" / "haul.log"
