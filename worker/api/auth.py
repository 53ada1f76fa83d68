"""Who may call: with keys set, whoever sends one; without, programs of this machine."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from worker.api.problems import ProblemResponse

#: Paths that need no key: what probes, scrapers and readers of the documentation ask for.
OPEN = frozenset({"/health", "/ready", "/metrics", "/docs", "/openapi.json"})


class KeyRequired:
    """Lets a request pass that carries `Authorization: Bearer KEY` with one of the keys, or asks for an open path."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or pass on."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._known(_header(scope, b"authorization")):
            await self._app(scope, receive, send)
            return
        given = bool(_header(scope, b"authorization"))
        refusal = ProblemResponse(
            401,
            "the API key is not known" if given else "an API key is needed",
            fix="send the header Authorization: Bearer KEY with one of the keys of HAUL_API_KEYS",
            headers={"WWW-Authenticate": 'Bearer realm="haul"' + (', error="invalid_token"' if given else "")},
        )
        await refusal(scope, receive, send)

    def _known(self, authorization: bytes) -> bool:
        scheme, _, given = authorization.partition(b" ")
        # Every key is compared, each in constant time: how long it takes tells nothing of them.
        matches = [hmac.compare_digest(given.strip(), key) for key in self._keys]
        return scheme.lower() == b"bearer" and any(matches)


class LoopbackOnly:
    """Refuses a request whose `Host` is not this machine's own name.

    A web page in a browser of this machine can reach a loopback port by a name that it lets resolve to it; its
    requests carry that name (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or pass on."""
        if scope["type"] != "http" or is_loopback(_host_name(_header(scope, b"host"))):
            await self._app(scope, receive, send)
            return
        refusal = ProblemResponse(
            403, "without API keys only this machine's own address is served", field="Host", fix="call 127.0.0.1, or set HAUL_API_KEYS"
        )
        await refusal(scope, receive, send)


def is_loopback(host: str) -> bool:
    """True for `localhost` and addresses that only this machine can reach."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(header: bytes) -> str:
    try:
        return urlsplit(f"//{header.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
