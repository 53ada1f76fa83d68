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
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

KINDS = frozenset({"loop", "short", "stop", "shifted", "whole", "shrunk", "refuses", "other", "garbage", "nothing"})


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


@contextmanager
def untrusted(directory: Path) -> Iterator[str]:
    """The https URL of a server whose certificate nobody signed."""
    certificate = directory / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=127.0.0.1", "-keyout", str(certificate), "-out", str(directory / "signed.pem")]
    subprocess.run(made, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "signed.pem", certificate)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(1)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/x"
        listener.shutdown(socket.SHUT_RDWR)
