"""One stack per data directory: the lock of its process, and the lock its servers keep for as long as one of them lives."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.settings import SettingsError
from worker.stack import Stack, stack_file

#: A look at the lock holds it for a moment; whoever wants it waits that out.
PATIENCE_S = 1.0
LEFTOVER_TIMEOUT_S, KILLED_TIMEOUT_S = 10.0, 10.0
POLL_S = 0.02


class StackRunning(SettingsError):
    """Another process runs the stack of this data directory."""


def running(data_dir: Path) -> Stack | None:
    """The stack whose process lives, or None; a stack that is just starting has not written its addresses yet."""
    return Stack.load(data_dir) if holder(data_dir) is not None else None


def holder(data_dir: Path) -> int | None:
    """The process that runs the stack of this data directory, or None."""
    path = _stack_lock(data_dir)
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or b"0")
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(data_dir, error) from None


@contextmanager
def held(data_dir: Path) -> Iterator[int]:
    """Hold the data directory; yields the descriptor that its servers have to inherit.

    Servers that a killed stack left behind are stopped first, and its addresses are forgotten.

    Raises:
        StackRunning: another process holds it; the message names its pid.
    """
    make(data_dir)
    with _stack_lock(data_dir).open("a+b") as own, _servers_lock(data_dir).open("a+b") as shared:
        if not _taken(own.fileno(), PATIENCE_S):
            raise StackRunning(f"process {holder(data_dir) or '?'} runs the stack of {data_dir}: use that one, or stop it first")
        own.truncate(0)
        own.write(str(os.getpid()).encode())
        own.flush()
        stack_file(data_dir).unlink(missing_ok=True)
        if not _taken(shared.fileno(), 0):
            _stop_leftovers(_servers_lock(data_dir), shared.fileno())
        try:
            yield shared.fileno()
        finally:
            stack_file(data_dir).unlink(missing_ok=True)


def make(data_dir: Path) -> None:
    """Make the data directory, for its owner only, unless it is there. Raises SettingsError when it cannot be written."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _stack_lock(data_dir).touch(mode=0o600)
    except OSError as error:
        raise _unusable(data_dir, error) from None


def _unusable(data_dir: Path, error: OSError) -> SettingsError:
    return SettingsError(f"HAUL_DATA_DIR: {data_dir} cannot be used: {error.strerror}")


def _stack_lock(data_dir: Path) -> Path:
    return data_dir / "stack.lock"


def _servers_lock(data_dir: Path) -> Path:
    return data_dir / "servers.lock"


def _taken(descriptor: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)


def _stop_leftovers(lock: Path, descriptor: int) -> None:
    """End every process that has the servers' lock open: only servers of this data directory do."""
    for number, timeout_s in ((signal.SIGTERM, LEFTOVER_TIMEOUT_S), (signal.SIGKILL, KILLED_TIMEOUT_S)):
        left = _users_of(lock)
        for pid in left:
            _signal(pid, signal.SIGCONT)
            _signal(pid, number)
        if _taken(descriptor, timeout_s):
            return
    raise StackRunning(
        f"servers of an earlier stack still hold {lock}: stop them first ({', '.join(map(str, left)) or 'not visible here'})"
    )


def _users_of(path: Path) -> list[int]:
    target = str(path.resolve())
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd"):
        pid = int(entry.parent.name)
        try:
            links = [os.readlink(link) for link in entry.iterdir()]
        except OSError:  # not ours, or gone by now
            continue
        if pid != os.getpid() and target in links:
            found.append(pid)
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
