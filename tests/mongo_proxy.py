"""A TCP proxy before a MongoDB that can lose a reply, or do something between a request and the server."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from tests.mongodb import with_options

LENGTH = struct.Struct("<i")


class MongoProxy:
    """Passes whole messages on between clients and the server at `address` (host:port).

    Each request has one answer here: clients have to ask with `serverMonitoringMode=poll`.

    Attributes:
        largest: bytes of the largest message that a client has sent.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._armed: dict[bytes, list[Callable[[], bool]]] = {}
        self._sockets: list[socket.socket] = []
        self.largest = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_reply(self, command: str, *, times: int = 1, forward: bool = True, then: Callable[[], object] = lambda: None) -> None:
        """Lose the answers to the next `times` messages with this command.

        Args:
            forward: whether the server gets them at all.
            then: called once the server has answered, before the client sees its connection break.
        """

        def lose() -> bool:
            then()
            return False

        self._arm(command, [lose] * times, after=forward)

    def hold(self, command: str, until: Callable[[], object], *, times: int = 1) -> None:
        """Keep the next `times` messages with this command back until `until` has returned, then pass them on."""

        def wait() -> bool:
            until()
            return True

        self._arm(command, [wait] * times, after=False)

    @property
    def idle(self) -> bool:
        """True when all that was asked for has happened."""
        with self._lock:
            return not any(self._armed.values())

    def close(self) -> None:
        """Break all connections."""
        self._listener.close()
        with self._lock:
            for each in self._sockets:
                each.close()

    def _arm(self, command: str, actions: list[Callable[[], bool]], *, after: bool) -> None:
        mark = (b"+" if after else b"-") + b"\x02" + command.encode() + b"\0"  # a key of type text, as BSON has it
        with self._lock:
            self._armed[mark] = list(actions)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                with self._lock:
                    self._sockets += [client, server]
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """One message there, its answer back, until somebody ends it; the driver's monitors and pool need no more."""
        with contextlib.suppress(OSError, EOFError), client, server:
            while True:
                request = _message(client)
                self.largest = max(self.largest, len(request))
                if not self._act(request, b"-"):
                    return
                server.sendall(request)
                reply = _message(server)
                if not self._act(request, b"+"):
                    return
                client.sendall(reply)

    def _act(self, request: bytes, when: bytes) -> bool:
        with self._lock:
            actions = [each.pop(0) for mark, each in self._armed.items() if each and mark[:1] == when and mark[1:] in request[:120]]
        return all(action() for action in actions)


@contextmanager
def mongo_proxy(address: str) -> Iterator[MongoProxy]:
    """A proxy for one test."""
    proxy = MongoProxy(address)
    try:
        yield proxy
    finally:
        proxy.close()


def _message(source: socket.socket) -> bytes:
    head = _exactly(source, LENGTH.size)
    return head + _exactly(source, LENGTH.unpack(head)[0] - LENGTH.size)


def _exactly(source: socket.socket, n: int) -> bytes:
    data = bytearray()
    while len(data) < n:
        more = source.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


def through(url: str, proxy: MongoProxy, options: str = "") -> str:
    """The address of the same database by way of the proxy, with further options of the driver."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    needed = "serverMonitoringMode=poll&directConnection=true"
    return with_options(urlunsplit(parts._replace(netloc=f"{login}{at}{proxy.address}")), f"{needed}&{options}".rstrip("&"))
