"""A proxy before a MongoDB that breaks every kind of call once or more often, in one way."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import bson

from tests.mongo_proxy import MongoProxy, _message

OP_MSG = 2013
#: Length, number, number answered, kind; flags, kind of the first section.
HEAD, BODY_AT = struct.Struct("<iiii"), 21
#: What the driver asks by itself.
DRIVERS = frozenset({"hello", "ismaster", "isMaster", "ping", "endSessions", "killCursors"})


class FaultyMongo(MongoProxy):
    """Breaks the first `times` calls of each kind, which is a command on a collection.

    Args:
        how: a key of `HOWS`.
        only: these commands; all when empty.

    Attributes:
        broken: how often each kind was.
    """

    def __init__(self, address: str, how: str, times: int, only: frozenset[str] = frozenset()) -> None:
        self._how, self._times, self._only = HOWS[how], times, only
        self.broken: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()
        super().__init__(address)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client, server:
            while True:
                request = _message(client)
                if self._is_next(request):
                    if not self._how(request, client, server):
                        return
                    continue
                server.sendall(request)
                client.sendall(_message(server))

    def _is_next(self, request: bytes) -> bool:
        if HEAD.unpack_from(request)[3] != OP_MSG:
            return False
        body = bson.decode(request[BODY_AT : BODY_AT + struct.unpack_from("<i", request, BODY_AT)[0]])
        command, of = next(iter(body.items()))
        kind = (command, str(body.get("collection", of if isinstance(of, str) else "")))
        with self._counting:
            if command in DRIVERS or (self._only and command not in self._only) or self.broken[kind] >= self._times:
                return False
            self.broken[kind] += 1
            return True


def _lost(request: bytes, _client: socket.socket, server: socket.socket) -> bool:
    server.sendall(request)
    _message(server)
    return False


def _cut(_request: bytes, _client: socket.socket, _server: socket.socket) -> bool:
    return False


def _torn(request: bytes, client: socket.socket, server: socket.socket) -> bool:
    server.sendall(request)
    answer = _message(server)
    client.sendall(answer[: len(answer) // 2])
    return False


def _half_sent(request: bytes, _client: socket.socket, server: socket.socket) -> bool:
    server.sendall(request[: len(request) // 2])
    return False


def _silent(request: bytes, client: socket.socket, server: socket.socket) -> bool:
    server.sendall(request)
    _message(server)
    client.recv(1)  # until it gives up
    return False


def _answers(said: Mapping[str, object]) -> Callable[[bytes, socket.socket, socket.socket], bool]:
    def answer(request: bytes, client: socket.socket, _server: socket.socket) -> bool:
        body = bytes(4) + b"\0" + bson.encode({"ok": 0.0, **said})
        client.sendall(HEAD.pack(HEAD.size + len(body), 0, HEAD.unpack_from(request)[1], OP_MSG) + body)
        return True

    return answer


#: True when the connection goes on.
HOWS: Mapping[str, Callable[[bytes, socket.socket, socket.socket], bool]] = {
    "the answer is lost": _lost,
    "the connection breaks before the server has it": _cut,
    "the answer breaks off in the middle": _torn,
    "the request breaks off in the middle": _half_sent,
    "nothing comes back": _silent,
    "the primary steps down": _answers({"errmsg": "not primary", "code": 10107, "codeName": "NotWritablePrimary"}),
    "the server is busy": _answers({"errmsg": "operation was interrupted", "code": 11601, "codeName": "Interrupted"}),
}


@contextmanager
def faulty_mongo(address: str, how: str, times: int = 3, only: frozenset[str] = frozenset()) -> Iterator[FaultyMongo]:
    """Three times is once more than a call of the store tries by itself."""
    proxy = FaultyMongo(address, how, times, only)
    try:
        yield proxy
    finally:
        proxy.close()
