"""Finds and starts qBittorrent: without a window, on a loopback port, with a password of its own.

qBittorrent keeps everything in one profile directory. Its configuration is written before each start, so what was changed
through its pages does not outlive one; its torrents do.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.cli.servers.process import Server, free_port, private, started
from worker.cli.servers.programs import ServerMissing, find

USER = "haul"
#: How qBittorrent stores a password: `Utils::Password::PBKDF2` of its source.
HASH, HASH_ROUNDS, SALT_BYTES = "sha512", 100_000, 16
#: Answered to a question without a session, once the pages are served; a failed login would count towards a ban.
READY = (b"GET /api/v2/app/version HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n", b"403 Forbidden")

#: Of `[BitTorrent]`, all with the prefix `Session\\`. Many torrents may seed at once; only downloads have slots. What is
#: known of a torrent is saved each minute, so little is checked again after a crash, and looked at twice a second.
SESSION: Mapping[str, object] = {
    "QueueingSystemEnabled": "true",
    "MaxActiveTorrents": -1,
    "MaxActiveUploads": -1,
    "DisableAutoTMMByDefault": "true",
    "AddExtensionToIncompleteFiles": "false",
    "TempPathEnabled": "false",
    "SaveResumeDataInterval": 1,
    "RefreshInterval": 500,
    "LSDEnabled": "false",
    "PeXEnabled": "true",
}
#: No question to anybody about versions and countries.
PREFERENCES = (r"General\Locale=en", r"Advanced\updateCheck=false", r"Connection\ResolvePeerCountries=false")


def find_qbittorrent(chosen: str | None = None) -> Path | None:
    """The qbittorrent-nox to run: the setting, then PATH; None when there is none, for aria2 does without it.

    Raises:
        ServerMissing: the setting names no program.
    """
    try:
        return find("qBittorrent", chosen, "HAUL_QBITTORRENT", ("qbittorrent-nox",), None, "qbittorrent-nox")
    except ServerMissing:
        if chosen:
            raise
        return None


def url_of(port: int, secret: str) -> str:
    """The address of the one that is started with these."""
    return f"qbittorrent+http://{USER}:{secret}@127.0.0.1:{port}"


def start_qbittorrent(
    binary: Path,
    directory: Path,
    downloads: Path,
    *,
    slots: int,
    port: int | None = None,
    secret: str | None = None,
    listen_port: int | None = None,
    discovery: bool = True,
    keep_fds: Sequence[int] = (),
    wait: bool = True,
) -> Server:
    """Start qbittorrent-nox with its profile in `directory`; it continues what the profile holds.

    Args:
        downloads: the volume; work directories are made below it.
        slots: downloads at once.
        listen_port: for peers.
        discovery: look for peers in the DHT; trackers are asked anyway.
        port, secret, keep_fds, wait: as for `start_valkey`.

    Raises:
        ServerFailed: it did not come up.
    """
    port, secret = port or free_port(), secret or secrets.token_urlsafe(24)
    session = {
        **SESSION,
        "DefaultSavePath": downloads,
        "MaxActiveDownloads": slots,
        "Port": listen_port or free_port(port),
        "DHTEnabled": str(discovery).lower(),
    }
    pages = {
        "Address": "127.0.0.1",
        "Port": port,
        "Username": USER,
        "Password_PBKDF2": f'"@ByteArray({_stored(secret)})"',
        "LocalHostAuth": "true",
        "UseUPnP": "false",
    }
    lines = ["[LegalNotice]", "Accepted=true", "[Network]", "PortForwardingEnabled=false", "[BitTorrent]"]
    lines += [rf"Session\{key}={value}" for key, value in session.items()]
    lines += ["[Preferences]", *PREFERENCES, *(rf"WebUI\{key}={value}" for key, value in pages.items())]
    profile = directory / "qBittorrent"
    profile.mkdir(exist_ok=True, mode=0o700)  # qBittorrent writes its configuration again, readable for everybody
    (profile / "config").mkdir(exist_ok=True)
    private(profile / "config" / "qBittorrent.conf", lines)
    question, sign = READY
    url = url_of(port, secret)
    command = [str(binary), f"--profile={directory}", f"--webui-port={port}"]
    return started(Server("qbittorrent", url, command, directory / "qbittorrent.log", (port, question % port, sign), keep_fds), wait)


def _stored(secret: str) -> str:
    salt = secrets.token_bytes(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac(HASH, secret.encode(), salt, HASH_ROUNDS)
    return f"{base64.b64encode(salt).decode()}:{base64.b64encode(digest).decode()}"
