"""A local HTTP origin for tests and benchmarks: content made from a seed, and every way a server can misbehave.

What a path does is told by its first part, parameters stand in the query:

    /file/NAME?size=&seed=&rate=            a file; ranges, ETag, Last-Modified; `rate` in bytes a second and connection
    /nolength/NAME?size=&seed=              no Content-Length, no ranges; the end of the connection ends it
    /redirect/N/REST                        N redirects (302), then REST
    /status/404?after=&location=            that status and a short text (Retry-After: `after`, Location: `location`)
    /auth/NAME?user=&password=              401 without this Basic authorisation
    /flaky/NAME?fails=2&status=503&after=   the first `fails` requests get `status` (Retry-After: `after`), then the file
    /flaky/doc/NAME?fails=                  the same, then the document
    /cut/NAME?at=BYTES&times=1&size=        the first `times` requests end with a reset after `at` bytes, then the file
    /named?filename=&form=quoted&size=      Content-Disposition; `form` is `quoted`, `extended` (RFC 5987) or `both`
    /hang/NAME                              reads the request and says nothing until the origin stops
    /doc/NAME                               bytes given to `Origin.document`; ranges and `rate` as for a file
    /local/NAME                             a file of the directory given to `Origin`, by sendfile
    /announce                               a BitTorrent tracker: every client gets all others (BEP 3, 23)
    /with/QUERY/REST                        REST with these parameters: libtorrent refuses web seeds on local addresses with a query

More ways to misbehave, and a server with an untrusted certificate, are in `tests.misbehaviour`.

Every form but `/nolength`, `/status`, `/redirect` and `/hang` takes `size`, `seed` and `rate`, and answers ranges.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import os
import re
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes, urlsplit

from tests import misbehaviour

CHUNK_BYTES = 64 * 1024
DEFAULT_SIZE = 100_000
#: Between two announces of a client; engines have bounds of their own, libtorrent five minutes.
ANNOUNCE_S = 2
LAST_MODIFIED = "Wed, 01 Jan 2025 00:00:00 GMT"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@functools.lru_cache(maxsize=64)
def _block(seed: int) -> bytes:
    return hashlib.shake_256(f"origin:{seed}".encode()).digest(CHUNK_BYTES)


def content(size: int, seed: int = 0) -> bytes:
    """The bytes the origin serves for (size, seed); any two positions a block apart differ."""
    return b"".join(_pieces(0, size, seed))


def _pieces(start: int, end: int, seed: int) -> Iterator[bytes]:
    """Bytes `start` to `end` of a content: block n is the seed's block with n written at its head."""
    while start < end:
        number, offset = divmod(start, CHUNK_BYTES)
        block = struct.pack(">Q", number) + _block(seed)[8:]
        piece = block[offset : offset + end - start]
        yield piece
        start += len(piece)


#: The bytes from one position to another.
_Pieces = Callable[[int, int], Iterator[bytes]]


def _unfolded(path: str) -> str:
    """`/REST?QUERY` for `/with/QUERY/REST`; other paths as they are."""
    if not path.startswith("/with/"):
        return path
    query, _, rest = path.removeprefix("/with/").partition("/")
    return f"/{rest.partition('?')[0]}?{unquote(query)}"


class Origin:
    """The server, in a thread. A context manager; counters are by path, the query left out.

    Attributes:
        bytes_served: bytes of bodies written to sockets.
        requests: requests received, without those of the next.
        probes: HEAD, and GET for the first byte alone: a source is asked for its size, and `bytes_served` leaves them out.
        ends: when (monotonic clock) the last byte of a file was written, and with which byte that answer began.
    """

    def __init__(self, directory: Path | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.directory = directory
        self.bytes_served: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.probes: Counter[str] = Counter()
        self.ends: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        self.stopping = threading.Event()
        self._documents: dict[str, bytes] = {}
        self._peers: dict[bytes, set[int]] = {}
        self._lock = threading.Lock()
        self._server = _Server((host, port), _Handler)
        self._server.origin = self
        self._thread: threading.Thread | None = None

    def start(self) -> Origin:
        """Serve until `stop`."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="origin", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every connection."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_connections()
        if self._thread:
            self._thread.join(5)

    def __enter__(self) -> Origin:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str) -> str:
        """The absolute URL of a path (with its query)."""
        return f"http://127.0.0.1:{self.port}/{path.lstrip('/')}"

    def document(self, name: str, body: bytes) -> str:
        """Serve `body` at /doc/`name`; returns the URL."""
        self._documents[name] = body
        return self.url(f"doc/{quote(name)}")

    def documented(self, name: str) -> bytes | None:
        """The body given to `document` under this name."""
        return self._documents.get(name)

    def announced(self, infohash: bytes, port: int, *, stopped: bool = False) -> list[int]:
        """Note a client on this machine; the ports of all others with the same torrent."""
        with self._lock:
            ports = self._peers.setdefault(infohash, set())
            (ports.discard if stopped else ports.add)(port)
            return sorted(ports - {port})

    def peers(self, infohash: str) -> set[int]:
        """Ports of the clients that announced this infohash (40 hexadecimal digits; of a v2 one the first 40)."""
        with self._lock:
            return set(self._peers.get(bytes.fromhex(infohash[:40]), ()))

    def requested(self, path: str, *, probe: bool = False) -> int:
        """Count a request; its number for this path, from 1, and of a probe that of the next request."""
        with self._lock:
            if probe:
                self.probes[path] += 1
                return self.requests[path] + 1
            self.requests[path] += 1
            return self.requests[path]

    def served(self, path: str, size: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self.bytes_served[path] += size


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    origin: Origin

    def __init__(self, *args: object) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*args)  # type: ignore[arg-type]

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._connections.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of the tests."""


class _Handler(misbehaviour.Misbehaviour, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = CHUNK_BYTES  # one segment for the head and a small body, or Nagle's algorithm costs 40 ms
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        # What lies in the socket counts as served though the client may never read it: keep it small.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK_BYTES)
        self.path = _unfolded(self.path)
        parts = urlsplit(self.path)
        self.key = unquote(parts.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.is_probe = self.command == "HEAD" or self.headers.get("Range") == "bytes=0-0"
        self.number = self.server.origin.requested(self.key, probe=self.is_probe)
        kind = parts.path.strip("/").split("/", 1)[0]
        answer = getattr(self, f"_{kind}", None) if kind in _KINDS else None
        if answer:
            answer()
        else:
            self._say(404, "no such path")

    do_HEAD = do_GET  # noqa: N815 - the base class names it

    def log_message(self, *_: object) -> None:
        """Silent."""

    # ---- the kinds of paths ----

    def _file(self, headers: dict[str, str] | None = None, cut_at: int | None = None, *, abruptly: bool | None = True) -> None:
        """A file, up to `cut_at`; then the connection is reset (`abruptly`), closed, or, for None, stands still."""
        size, seed = self._size(), int(self.query.get("seed", 0))
        head = {"ETag": f'"{size}-{seed}"', "Last-Modified": LAST_MODIFIED, **(headers or {})}
        self._ranged(size, lambda start, end: _pieces(start, end, seed), head, cut_at, abruptly=abruptly)

    def _ranged(
        self, size: int, pieces: _Pieces, headers: dict[str, str], cut_at: int | None = None, *, abruptly: bool | None = True
    ) -> None:
        start, end = self._range(size, headers.get("ETag", ""))
        if start >= size > 0:
            self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        partial = "Range" in self.headers
        base = {"Accept-Ranges": "bytes", "Content-Length": str(end - start)}
        if partial:
            base["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._head(206 if partial else 200, {**base, **headers})
        if self.command == "GET":
            self._body(pieces(start, end if cut_at is None else min(end, start + cut_at)))
            if cut_at is None and end == size and not self.is_probe:
                self.server.origin.ends[self.key].append((time.monotonic(), start))
        if cut_at is not None and self.command == "GET":
            if abruptly is None:
                self.server.origin.stopping.wait()
            self._reset() if abruptly else self._close()

    def _nolength(self) -> None:
        self._head(200, {"Connection": "close"})
        if self.command == "HEAD":
            return
        self._body(_pieces(0, self._size(), int(self.query.get("seed", 0))))
        self.close_connection = True

    def _redirect(self) -> None:
        _, _, rest = self.path.lstrip("/").partition("/")
        count, _, target = rest.partition("/")
        left = int(count) - 1
        self._head(302, {"Location": f"/redirect/{left}/{target}" if left > 0 else f"/{target}", "Content-Length": "0"})

    def _status(self) -> None:
        headers = {"Retry-After": self.query.get("after", ""), "Location": self.query.get("location", "")}
        self._say(int(self.key.rsplit("/", 1)[1]), "as you asked", {name: value for name, value in headers.items() if value})

    def _auth(self) -> None:
        pair = f"{self.query.get('user', '')}:{self.query.get('password', '')}"
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(pair.encode()).decode():
            self._file()
        else:
            self._say(401, "who are you?", {"WWW-Authenticate": 'Basic realm="origin"'})

    def _flaky(self) -> None:
        if self.number > int(self.query.get("fails", 1)):
            documented = self.key.startswith("/flaky/doc/")
            self.key = self.key.removeprefix("/flaky") if documented else self.key
            (self._doc if documented else self._file)()
            return
        after = {"Retry-After": self.query["after"]} if "after" in self.query else {}
        self._say(int(self.query.get("status", 503)), "later", after)

    def _cut(self) -> None:
        at = int(self.query.get("at", 0)) if self.number <= int(self.query.get("times", 1)) else None
        self._file(cut_at=at)

    def _named(self) -> None:
        name, form = self.query.get("filename", "file"), self.query.get("form", "quoted")
        quoted = 'filename="' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        extended = f"filename*=UTF-8''{quote(name, safe='')}"
        value = {"quoted": quoted, "extended": extended, "both": f"{quoted}; {extended}"}[form]
        self._file({"Content-Disposition": f"attachment; {value}"})

    def _hang(self) -> None:
        self.server.origin.stopping.wait()
        self.close_connection = True

    def _doc(self) -> None:
        body = self.server.origin.documented(self.key.removeprefix("/doc/"))
        if body is None:
            self._say(404, "no such document")
            return
        kind = _TYPES.get(Path(self.key).suffix, "application/octet-stream")
        self._ranged(len(body), lambda start, end: iter((body[start:end],)), {"Content-Type": kind})

    def _announce(self) -> None:
        query = dict(pair.partition("=")[::2] for pair in urlsplit(self.path).query.split("&"))
        infohash, port = unquote_to_bytes(query["info_hash"]), int(query["port"])
        others = self.server.origin.announced(infohash, port, stopped=query.get("event") == "stopped")
        peers = b"".join(socket.inet_aton("127.0.0.1") + struct.pack(">H", other) for other in others)
        body = b"d8:intervali%de12:min intervali%de5:peers%d:%se" % (ANNOUNCE_S, ANNOUNCE_S, len(peers), peers)
        self._head(200, {"Content-Type": "text/plain", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _local(self) -> None:
        base = self.server.origin.directory
        path = Path(base, self.key.removeprefix("/local/")).resolve() if base else None
        if base is None or path is None or not path.is_relative_to(base.resolve()) or not path.is_file():
            self._say(404, "no such file")
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, end = self._range(size, "")
            extra = {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if "Range" in self.headers else {}
            self._head(206 if extra else 200, {"Accept-Ranges": "bytes", "Content-Length": str(end - start), **extra})
            if self.command == "GET":
                self.wfile.flush()
                self.connection.sendfile(file, start, end - start)
                if not self.is_probe:
                    self.server.origin.served(self.key, end - start)

    # ---- what they are made of ----

    def _size(self) -> int:
        return int(self.query.get("size", DEFAULT_SIZE))

    def _range(self, size: int, etag: str) -> tuple[int, int]:
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not match or self.headers.get("If-Range", etag) != etag:
            del self.headers["Range"]
            return 0, size
        start, last = int(match[1]), int(match[2]) if match[2] else size - 1
        return start, min(last + 1, size)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value.replace("\r", "").replace("\n", "") if name != "Content-Disposition" else value)
        self.end_headers()

    def send_header(self, keyword: str, value: str) -> None:
        """As the base class does, in UTF-8: what servers really send in Content-Disposition."""
        if not hasattr(self, "_headers_buffer"):
            self._headers_buffer: list[bytes] = []
        self._headers_buffer.append(f"{keyword}: {value}\r\n".encode())
        if keyword.lower() == "connection":
            self.close_connection = value.lower() == "close"

    def _say(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        body = f"{status} {text}\n".encode()
        self._head(status, {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})})
        if self.command == "GET":
            self.wfile.write(body)

    def _body(self, pieces: Iterator[bytes]) -> None:
        rate, began, sent = float(self.query.get("rate", 0)), time.monotonic(), 0
        for piece in pieces:
            # A slow file is sent in small pieces, so that what has arrived is what the counter says.
            step = max(1, min(len(piece), int(rate / 20))) if rate else len(piece)
            for at in range(0, len(piece), step):
                part = piece[at : at + step]
                self.wfile.write(part)
                if not self.is_probe:
                    self.server.origin.served(self.key, len(part))
                sent += len(part)
                if rate:
                    self.wfile.flush()
                    ahead = sent / rate - (time.monotonic() - began)
                    if ahead > 0 and self.server.origin.stopping.wait(ahead):
                        return
        self.wfile.flush()

    def _close(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def _reset(self) -> None:
        """Let the client read what was sent, then end with RST instead of FIN."""
        self.server.origin.stopping.wait(0.1)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


_KINDS = misbehaviour.KINDS | {
    "file",
    "nolength",
    "redirect",
    "status",
    "auth",
    "flaky",
    "cut",
    "named",
    "hang",
    "doc",
    "local",
    "announce",
}
_TYPES = {".torrent": "application/x-bittorrent", ".metalink": "application/metalink+xml", ".meta4": "application/metalink4+xml"}


def main() -> None:
    """Serve a directory until interrupted; the URL is printed first."""
    parser = argparse.ArgumentParser(description="a local HTTP origin")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--dir", type=Path, default=None, help="serve its files at /local/NAME")
    chosen = parser.parse_args()
    with Origin(chosen.dir, chosen.host, chosen.port) as origin:
        print(origin.url(""), flush=True)
        try:
            origin.stopping.wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
