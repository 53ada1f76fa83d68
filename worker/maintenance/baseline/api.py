"""The API as a client meets it: one connection that stays open, one request at a time."""

from __future__ import annotations

import http.client
import json
import ssl
from urllib.parse import urlsplit

from worker.jobs.errors import Transient
from worker.settings import Settings
from worker.stack import Stack

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 8_000_000
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - where one listens; to be asked on the loopback
HEALTH, METRICS, JOBS = "/health", "/metrics", "/v1/jobs?limit=20"


class Api:
    """Asks for paths; every failure is Transient in words for a person.

    Args:
        url: http or https.
        key: sent with each request.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> bytes:
        """The body of a 200. Raises Transient for everything else."""
        try:
            connection = self._connection = self._connection or self._open()
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            why = getattr(error, "strerror", None) or type(error).__name__
            raise Transient("api", f"{_shown(self._url)} does not answer: {why}") from None
        if answer.status != 200 or not answer.isclosed():
            self.close()
            raise Transient("api", f"{path} was answered with {answer.status}" if answer.status != 200 else f"{path}: too long an answer")
        return body

    def health(self) -> None:
        """Whether the process lives."""
        self.get(HEALTH)

    def metrics(self) -> float:
        """All metrics; how many lines."""
        return float(self.get(METRICS).count(b"\n"))

    def jobs(self) -> float:
        """The newest jobs; how many."""
        try:
            return float(len(json.loads(self.get(JOBS))["jobs"]))
        except (ValueError, KeyError, TypeError):
            raise Transient("api", f"{JOBS} was not answered with jobs") from None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _open(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._url)
        host = parts.hostname or "127.0.0.1"
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)


def address(settings: Settings) -> str | None:
    """Where the API answers: as it is set, as the stack of the data directory says, or where a `haul api` of this machine listens."""
    if settings.api_url:
        return settings.api_url
    if stack := Stack.load(settings.data_dir):
        return stack.api_url
    if not settings.api_port:
        return None
    host = "127.0.0.1" if settings.api_host in EVERYWHERE else settings.api_host
    return f"http://[{host}]:{settings.api_port}" if ":" in host else f"http://{host}:{settings.api_port}"


def _shown(url: str) -> str:
    """Without what may be a password."""
    return url.rpartition("@")[2]
