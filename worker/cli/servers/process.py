"""A server process: started, asked whether it is ready, started again, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from worker.cli.servers import tether

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 8.0
ASK_AGAIN_S = 0.5
PROBE_TIMEOUT_S = 1.0
PROBE_EVERY_S = 0.01
LOG_BYTES_MAX = 4 * 1024 * 1024


class ServerFailed(Exception):
    """A server did not come up; the message ends with what it logged last."""


class Server:
    """A server process and how to reach it.

    Args:
        url: its address, with its secret.
        probe: what to send to the port, and what the answer of a server that is ours and ready contains.
        keep_fds: descriptors the server inherits, so that a lock lives as long as it does.
    """

    def __init__(self, name: str, url: str, command: Sequence[str], log: Path, probe: tuple[int, bytes, bytes], keep_fds: Sequence[int]):
        self.name = name
        self.url = url
        self._command = command
        self._log = log
        self._probe = probe
        self._keep_fds = tuple(keep_fds)
        self.process = self._spawn()

    @property
    def alive(self) -> bool:
        """True while its process runs."""
        return self.process.poll() is None

    def restart(self) -> None:
        """Start it again under the same address, after it died."""
        self.process = self._spawn()

    def await_ready(self) -> None:
        """Return when it answers to its secret.

        Raises:
            ServerFailed: it ended, or has not answered within 30 s and was stopped.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.alive:
            if _answers(*self._probe):
                return
            time.sleep(PROBE_EVERY_S)
        self.stop()
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise ServerFailed(f"{self.name} did not come up (exit {self.process.returncode}): {' | '.join(last) or 'it logged nothing'}")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after 8 s; returns when it is gone. Idempotent."""
        stop_together([self])

    def _ask_to_end(self) -> None:
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            _answers(*self._probe)  # aria2c looks for signals once a second, or when it is spoken to

    def _spawn(self) -> subprocess.Popen[bytes]:
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *self._command]
        full = self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX
        with self._log.open("wb" if full else "ab") as sink:
            return subprocess.Popen(  # noqa: S603 - the program was found by us, the arguments are ours
                tethered,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=self._keep_fds,
                process_group=0,  # a Ctrl-C on the terminal reaches us alone; we stop the servers in order
            )


def started(server: Server, wait: bool) -> Server:
    """The server, once it answers if that is waited for. Raises ServerFailed."""
    if wait:
        server.await_ready()
    return server


def stop_together(servers: Sequence[Server]) -> None:
    """SIGTERM to all, SIGKILL after 8 s to those that are left; returns when none is. Idempotent."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (left := [server for server in servers if server.alive]) and time.monotonic() < deadline:
        for server in left:
            server._ask_to_end()  # said again, because qBittorrent does not hear it while it starts
        for server in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(ASK_AGAIN_S)
    for server in servers:
        server.process.kill()
        server.process.wait()


def free_port(*others: int) -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment, and that is none of these others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return free_port(*others) if port in others else port


def private(path: Path, lines: Sequence[str]) -> Path:
    """Write a file that only its owner can read, in place of the one before."""
    path.unlink(missing_ok=True)  # an old file may have been made readable for others
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


def _answers(port: int, question: bytes, sign: bytes) -> bool:
    """Whether the answer to a question contains the sign; a stranger on the port does not give it."""
    answer = b""
    deadline = time.monotonic() + PROBE_TIMEOUT_S
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection:
            connection.sendall(question)
            while sign not in answer and time.monotonic() < deadline:
                piece = connection.recv(4096)
                if not piece or b"-LOADING" in answer:
                    return False
                answer += piece
    except OSError:
        return False
    return sign in answer
