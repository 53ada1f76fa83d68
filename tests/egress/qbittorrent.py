"""A qbittorrent-nox inside the network namespace of the engines, told what Haul would tell it."""

from __future__ import annotations

import contextlib
import http.client
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from worker.cli.servers.qbittorrent import USER, find_qbittorrent, start_qbittorrent

PORT = 6801
#: As of the health check, for which the guard has a rule.
PROBE_HOST = "127.0.0.77"
START_S = 30.0


class Qbittorrent:
    """One qbittorrent-nox and its web API."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._secret, self._cookie = directory, secrets.token_urlsafe(16), ""
        (profile := directory / "profile").mkdir()
        program = find_qbittorrent()
        assert program is not None, "qbittorrent-nox is not installed"
        self._server = start_qbittorrent(program, profile, directory, slots=1000, port=PORT, secret=self._secret, wait=False)
        self.process = self._server.process
        deadline = time.monotonic() + START_S
        while not self._logged_in():
            assert self.process.poll() is None, "qbittorrent-nox ended"
            assert time.monotonic() < deadline, "qbittorrent-nox does not answer"
            time.sleep(0.1)

    def add(self, id: str, uri: str, document: bytes | None) -> None:
        """What Haul would submit; what qBittorrent refuses is refused."""
        fields = {"savepath": str(self._directory / id), "autoTMM": "false", "tags": id, "seedingTimeLimit": "-1", "ratioLimit": "0"}
        if document is None:
            self._ask("torrents/add", urlencode({"urls": uri, **fields}).encode(), "application/x-www-form-urlencoded")
        else:
            self._ask("torrents/add", *_form(fields, document))

    def _logged_in(self) -> bool:
        with contextlib.suppress(OSError):
            words = urlencode({"username": USER, "password": self._secret}).encode()
            answer = self._ask("auth/login", words, "application/x-www-form-urlencoded")
            found = re.search(r"SID=[^;]+", answer.get("set-cookie", ""))
            self._cookie = found[0] if found else ""
        return bool(self._cookie)

    def _ask(self, path: str, body: bytes, kind: str) -> Mapping[str, str]:
        """The headers of the answer, in small letters."""
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20, source_address=(PROBE_HOST, 0))
        with contextlib.closing(connection):
            connection.request("POST", f"/api/v2/{path}", body, {"Content-Type": kind, "Cookie": self._cookie})
            answer = connection.getresponse()
            answer.read()
            return {name.lower(): value for name, value in answer.getheaders()}


def _form(fields: Mapping[str, str], document: bytes) -> tuple[bytes, str]:
    mark = secrets.token_hex(16)
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    head = f'--{mark}\r\nContent-Disposition: form-data; name="torrents"; filename="x.torrent"\r\n'
    parts += [head.encode(), b"Content-Type: application/x-bittorrent\r\n\r\n", document, f"\r\n--{mark}--\r\n".encode()]
    return b"".join(parts), f"multipart/form-data; boundary={mark}"
