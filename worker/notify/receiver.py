"""One address that events are posted to: a POST with its signature and its bounds in time and size."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from worker.jobs.hooks import host_of

#: For each address of a name; what a system's resolver takes for the name comes on top.
CONNECT_S = 5.0
#: For everything after that name is known.
ANSWER_S = 10.0
#: Of an answer's body, which nobody looks at: a receiver that is hung up on while it sends one may think that it failed.
BODY_BYTES_MAX = 65_536


class Receiver:
    """Takes events by HTTP. Safe for many threads; each post has a connection of its own, and no proxy, cookie or netrc of the
    environment has a part in it.

    Args:
        address: http or https; a user and a password in it are sent as Basic authentication.
        secret: signs what is sent; nothing is signed with an empty one.
    """

    def __init__(self, address: str, secret: str) -> None:
        parts = urlsplit(address)
        self.shown = host_of(address)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        self._login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username is not None else None
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._secret = secret.encode()

    def post(self, id: str, body: bytes, at: float) -> int | None:
        """The status of the answer to one event, or None when there was none that can be read. Redirects are not followed.

        Args:
            id: of the event, the same whenever it is posted again.
            at: wall clock, for the signature.
        """
        try:
            return self._exchange(body, self._headers(id, body, at))
        except (OSError, HTTPException, UnicodeError):
            return None

    def _headers(self, id: str, body: bytes, at: float) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "haul", "Connection": "close", "Haul-Event-Id": id}
        if self._secret:
            headers["Haul-Signature"] = signature(self._secret, body, int(at))
        if self._login is not None:
            headers["Authorization"] = "Basic " + b64encode(self._login.encode()).decode()
        return headers

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> int:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        ends = time.monotonic() + ANSWER_S
        line = _connected(found, ends)
        with line, line.dup() as watched:  # TLS takes the first one over
            # A receiver that sends a byte now and then holds up nobody for longer.
            clock = threading.Timer(max(0.0, ends - time.monotonic()), _hang_up, (watched,))
            clock.daemon = True
            clock.start()
            try:
                if self._tls:
                    line = self._tls.wrap_socket(line, server_hostname=self._host)
                with line:
                    return self._ask(line, body, headers)
            finally:
                clock.cancel()
                clock.join()  # it does not hang up on a socket whose number has a new owner

    def _ask(self, line: socket.socket, body: bytes, headers: Mapping[str, str]) -> int:
        connection = HTTPConnection(self._host, self._port)
        connection.sock = line
        connection.request("POST", self._target, body, dict(headers))
        answer: HTTPResponse = connection.getresponse()
        with answer, suppress(OSError, HTTPException):
            answer.read(BODY_BYTES_MAX)
        return answer.status


def signature(secret: bytes, body: bytes, at: int) -> str:
    """`t=<unix seconds>,v1=<hexadecimal HMAC-SHA256 of "t.body">`."""
    return f"t={at},v1=" + hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()


def _connected(found: Sequence[tuple[Any, ...]], ends: float) -> socket.socket:
    """A connection to the first address that answers. Raises OSError."""
    failure = OSError("no address")
    for family, kind, protocol, _, address in found:
        line = socket.socket(family, kind, protocol)
        try:
            line.settimeout(max(0.001, min(CONNECT_S, ends - time.monotonic())))
            line.connect(address)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.settimeout(ANSWER_S)
            return line
        except OSError as error:
            line.close()
            failure = error
    raise failure


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
