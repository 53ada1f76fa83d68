"""The connections on which we ask servers ourselves, over HTTP: for a guarded job to permitted addresses only.

Every connection, each redirect's too, goes to an address that was looked at; no name is resolved a second time on its way. A line has a
session of its own, so that no cookie, password or connection of one user's job serves another's.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import DecodeError, IncompleteRead

from worker.admission import egress
from worker.jobs.errors import Rejected
from worker.jobs.retries import answered, retry_after_s
from worker.jobs.states import Cause
from worker.ports import Fault

#: For each address of a name, and for each silence.
CONNECT_S = 6.0
REDIRECTS_MAX = 5
#: So many aria2 follows; whoever goes ahead of it has to see each.
ENGINE_REDIRECTS_MAX = 20
AGENT = "haul"
REDIRECTS = frozenset({301, 302, 303, 307, 308})

UNRESOLVED = Fault(Cause.UNREACHABLE, True, "the server's name cannot be resolved")

Networks = Sequence[IPv4Network | IPv6Network]


class Refused(Exception):
    """What was asked for ends here, with its fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


class Line:
    """The connections to answer one question, all of which end with its time.

    Args:
        allowed: networks that may be reached although they are private; None lets any address pass.
        deadline_s: for everything; what a system's resolver takes for a name comes on top.
        late: the fault when it is over.
        ahead: we go ahead of an engine, which will choose among all addresses of a name, and follow every redirect: so a host
            with one forbidden address is refused, and a redirect to another protocol.
    """

    def __init__(self, allowed: Networks | None, deadline_s: float, late: Fault, *, ahead: bool = False) -> None:
        self._allowed = allowed
        self._ahead = ahead and allowed is not None
        self._late = late
        self._ends = time.monotonic() + deadline_s
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(deadline_s, self._hang_up)
        self._timer.daemon = True
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"User-Agent": AGENT, "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self))

    def __enter__(self) -> Line:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._session.close()
        for watched in self._sockets:
            watched.close()

    @property
    def late(self) -> bool:
        """True when the time is over."""
        return time.monotonic() >= self._ends

    @contextmanager
    def opened(self, method: str, uri: str, headers: Mapping[str, str] | None = None) -> Iterator[requests.Response]:
        """The answer at an address, redirects followed; its body is not read, and its connection ends with the block.

        Args:
            uri: a user and a password in it are sent, to this host only.

        Raises:
            Refused: it cannot or may not be reached; besides, what the libraries raise (`fault_of`).
        """
        login, here = _login(uri), uri
        for _ in range((ENGINE_REDIRECTS_MAX if self._ahead else REDIRECTS_MAX) + 1):
            self._check_host(here)
            timeout = (CONNECT_S, min(CONNECT_S, self.left()))
            options: Any = {"auth": login, "headers": headers, "stream": True, "allow_redirects": False, "timeout": timeout}
            with self._session.request(method, _bare(here), **options) as answer:
                if answer.status_code not in REDIRECTS:
                    yield answer
                    return
                there = _target(here, answer.headers.get("Location", ""), ahead=self._ahead)
            login = _login(there) or (login if _origin(there) == _origin(here) else None)
            here = there
        raise Refused(Fault(Cause.HTTP, False, "too many redirects"))

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to the first address of a host that may be reached and answers. Raises Refused or OSError."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        kinds = [self._refused(str(entry[4][0])) for entry in found]
        usable = [entry for entry, kind in zip(found, kinds, strict=True) if kind is None]
        if not usable or (self._ahead and len(usable) < len(found)):
            what = next(filter(None, kinds), "no address")
            raise Refused(Fault(Cause.REFUSED, False, f"the server's address is in a private network ({what})"))
        failure = OSError("no address")
        for family, kind, protocol, _, address in usable:
            connection = socket.socket(family, kind, protocol)
            try:
                self._open(connection, address)
            except OSError as error:
                connection.close()
                failure = error
            except Refused:
                connection.close()
                raise
            else:
                return connection
        raise failure

    def _open(self, connection: socket.socket, address: Any) -> None:
        connection.settimeout(min(CONNECT_S, self.left()))
        connection.connect(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets.append(connection.dup())  # TLS takes the other one over
        self.left()  # what came too late for `_hang_up` ends here

    def _refused(self, address: str) -> str | None:
        """What an address is that may not be reached; None for one that may."""
        return None if self._allowed is None else egress.refused_kind(ip_address(address.partition("%")[0]), self._allowed)

    def _check_host(self, uri: str) -> None:
        """Raise Refused for a host that an engine may take for another one than we do."""
        if not self._ahead:
            return
        try:
            egress.host_of(uri, "uri")
        except Rejected as refusal:
            raise Refused(Fault(Cause.REFUSED, False, f"the server's address {refusal.detail}")) from None

    def left(self) -> float:
        """Seconds that are left. Raises Refused when none are."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise Refused(self._late)
        return left

    def _hang_up(self) -> None:
        """A server that sends a byte now and then holds up nobody for longer."""
        for watched in list(self._sockets):
            with suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)


# ---- urllib3: its connections, made by a line ------------------------------------------------------------------


class _Connection(HTTPConnection):
    def __init__(self, line: Line, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return self._line.connect(self.host, self.port or 80)


class _SecureConnection(HTTPSConnection):
    def __init__(self, line: Line, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return self._line.connect(self.host, self.port or 443)


class _Pool(HTTPConnectionPool):
    def __init__(self, *args: Any, line: Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ConnectionCls = partial(_Connection, line)  # type: ignore[assignment]


class _SecurePool(HTTPSConnectionPool):
    def __init__(self, *args: Any, line: Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ConnectionCls = partial(_SecureConnection, line)  # type: ignore[assignment]


class _Adapter(HTTPAdapter):
    def __init__(self, line: Line) -> None:
        super().__init__(max_retries=0)
        pools = {"http": partial(_Pool, line=line), "https": partial(_SecurePool, line=line)}
        self.poolmanager.pool_classes_by_scheme = pools


# ---- addresses and faults --------------------------------------------------------------------------------------


def _login(uri: str) -> tuple[str, str] | None:
    parts = urlsplit(uri)
    return (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username is not None else None


def _bare(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))


def _origin(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _target(here: str, location: str, *, ahead: bool) -> str:
    """Where a redirect leads. Raises Refused."""
    there = urljoin(_bare(here), location.strip())
    scheme = urlsplit(there).scheme
    if scheme == "magnet":
        raise Refused(Fault(Cause.SOURCE, False, "the server has a magnet link in its place; ask for that"))
    if not location or scheme not in ("http", "https"):
        cause = Cause.REFUSED if ahead and location else Cause.HTTP
        raise Refused(Fault(cause, False, "the server redirects to something that is not http or https"))
    return there


def refusal(answer: requests.Response) -> Fault:
    """What an answer without the content says, with how long its server wants to be left alone."""
    said = answered(answer.status_code)
    after_s = retry_after_s(answer.headers.get("Retry-After"), time.time()) if said.cause is Cause.BUSY else None
    return Fault(said.cause, said.passing, said.text, retry_after_s=after_s)


def fault_of(error: BaseException) -> Fault | None:
    """What an exception of the libraries means, by what it was made from; None for a fault of ours."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return next((fault for kinds, fault in _BY_KIND if any(isinstance(link, kinds) for link in chain)), None)


#: The first that occurs counts; the libraries' errors are OSErrors or ValueErrors of their own.
_BY_KIND: Sequence[tuple[tuple[type[BaseException], ...], Fault]] = (
    ((ssl.SSLError, requests.exceptions.SSLError), Fault(Cause.UNREACHABLE, False, "no secure connection could be made (TLS)")),
    ((socket.gaierror,), UNRESOLVED),
    (
        (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError),
        Fault(Cause.UNREACHABLE, True, "the server did not answer in time"),
    ),
    ((ConnectionRefusedError,), Fault(Cause.UNREACHABLE, True, "the server refuses connections")),
    ((ConnectionError, http.client.IncompleteRead, IncompleteRead), Fault(Cause.INTERRUPTED, True, "the connection broke")),
    ((ValueError, http.client.HTTPException, DecodeError), Fault(Cause.HTTP, False, "the server's answer cannot be read")),
    ((OSError, urllib3.exceptions.HTTPError), Fault(Cause.UNREACHABLE, True, "no connection to the server")),
)
