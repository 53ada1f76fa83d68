"""Ways in which servers misbehave, as kinds of paths of the origin; a mixin of its handler.

/loop/NAME                            a redirect to itself
/short/NAME?at=BYTES&times=1&size=    the first `times` requests end, in order, after `at` bytes of the length they announced
/stop/NAME?at=BYTES&times=1&size=     the first `times` requests stand still after `at` bytes
/shifted/NAME?at=BYTES&by=1&size=     the first request is cut after `at` bytes; the next are answered with another range than asked
/whole/NAME?at=BYTES&size=            the first request is cut after `at` bytes; no range is known: each answer is the whole file
/shrunk/NAME?at=BYTES&to=&size=       the first request is cut after `at` bytes; by then the file has `to` bytes
/refuses/NAME?at=BYTES&status=        the first request is cut after `at` bytes; what asks for the rest is answered with `status`
/other/NAME?times=1&size=&seed=       the first `times` requests get another content of the same size
/garbage/NAME                         bytes that are no HTTP
/nothing/NAME                         the connection ends without an answer
/reset/NAME                           the connection is reset without an answer
/header/NAME?line=                    200 with this line among its headers, as it is; the content is "zz" and a line's end
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

#: How long one of the servers here listens to one connection, and what it reads at once.
TALK_S, REQUEST_BYTES = 5.0, 65536
KINDS = frozenset({"loop", "short", "stop", "shifted", "whole", "shrunk", "refuses", "other", "garbage", "nothing", "reset", "header"})


class Misbehaviour:
    """What the handler does for each kind; the rest is `tests.origin`'s."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _at(self) -> int | None:
        """Where this answer is cut: the first ones are."""
        return int(self.query.get("at", 0)) if self.number <= int(self.query.get("times", 1)) else None

    def _loop(self) -> None:
        self._head(302, {"Location": self.path, "Content-Length": "0"})

    def _short(self) -> None:
        self._file(cut_at=self._at(), abruptly=False)

    def _stop(self) -> None:
        self._file(cut_at=self._at(), abruptly=None)

    def _shifted(self) -> None:
        if self._at() is not None or self.is_probe:
            self._file(cut_at=self._at())
            return
        size, by = self._size(), int(self.query.get("by", 1))
        start, _ = self._range(size, "")
        length = size - start - by
        self._head(206, {"Content-Range": f"bytes {start + by}-{size - 1}/{size}", "Content-Length": str(length), "Accept-Ranges": "bytes"})
        if self.command == "GET":
            self._body(iter((b"?" * length,)))

    def _whole(self) -> None:
        del self.headers["Range"]
        self._file(cut_at=self._at())

    def _shrunk(self) -> None:
        if self._at() is None:
            self.query["size"] = self.query["to"]
        self._file(cut_at=self._at())

    def _refuses(self) -> None:
        if self._at() is None and "Range" in self.headers and not self.is_probe:
            self._say(int(self.query["status"]), "as you asked")
        else:
            self._file(cut_at=self._at())

    def _other(self) -> None:
        if self.number <= int(self.query.get("times", 1)):
            self.query["seed"] = str(1 + int(self.query.get("seed", 0)))
        self._file()

    def _garbage(self) -> None:
        self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n" * 20)
        self.close_connection = True

    def _nothing(self) -> None:
        self.close_connection = True

    def _header(self) -> None:
        self.wfile.write(f"HTTP/1.1 200 OK\r\n{self.query['line']}\r\n\r\nzz\r\n".encode())
        self.close_connection = True


#: What a server of FTP says to each command, and first of all.
FTP_REPLIES: Mapping[str, str] = {
    "": "220 hello",
    "USER": "331 and the password?",
    "PASS": "230 welcome",
    "TYPE": "200 so be it",
    "PWD": '257 "/"',
    "CWD": "250 there you are",
    "MDTM": "213 20250101000000",
    "SIZE": "213 1000",
    "PASV": "227 Entering Passive Mode (127,0,0,1,0,1)",
}


@contextmanager
def ftp_that_says(**replies: str) -> Iterator[str]:
    """The ftp URL of a server with these replies in place of its own; `hello` is the first.

    Nobody listens where its second connection would be.
    """
    told = {**FTP_REPLIES, "": replies.pop("hello", FTP_REPLIES[""]), **replies}

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rwb") as lines:
            said = ""
            while True:
                lines.write(f"{told.get(said, '502 what?')}\r\n".encode())
                lines.flush()
                if not (line := lines.readline()):
                    return
                said = line.split()[0].decode().upper()

    with _serving(talk) as port:
        yield f"ftp://127.0.0.1:{port}/directory/x"


@contextmanager
def untrusted(directory: Path) -> Iterator[str]:
    """The https URL of a server whose certificate nobody signed."""
    context = signed(directory / "untrusted.pem")

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with _serving(talk) as port:
        yield f"https://127.0.0.1:{port}/x"


@contextmanager
def breaking_off(certificate: Path) -> Iterator[str]:
    """The https URL of a server that ends the connection inside its answer, without the word that TLS has for an end."""
    context = signed(certificate)

    def talk(connection: socket.socket) -> None:
        secured = context.wrap_socket(connection, server_side=True)
        secured.recv(REQUEST_BYTES)
        secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
        os.close(secured.detach())

    with _serving(talk) as port:
        yield f"https://127.0.0.1:{port}/x"


def signed(certificate: Path) -> ssl.SSLContext:
    """What a server with a certificate of its own needs; written to a file, for those that are to trust it."""
    key = certificate.with_suffix(".key")
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def _serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of this machine where each connection is talked to."""

    def handle(connection: socket.socket) -> None:
        connection.settimeout(TALK_S)
        with connection, suppress(OSError):
            talk(connection)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
