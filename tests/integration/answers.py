"""Servers that do to a connection whatever a test says, and names that lead where it wants."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], object], address: str = "127.0.0.1") -> Iterator[str]:
    """The URL of a server that reads a request, then does this to the connection, each in a thread of its own."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            answer(connection)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server((address, 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield f"http://{address}:{listener.getsockname()[1]}/x.torrent"
        listener.shutdown(socket.SHUT_RDWR)


def said(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, ""))
    return head.encode() + body


def resolving(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Make names lead to these addresses; returns a list that grows with what is asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def found(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        return [entry for address in names.get(host, [host]) for entry in real(address, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return asked
