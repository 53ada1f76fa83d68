"""A proxy that counts what goes through to a server, by path."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})


class Counting(ThreadingHTTPServer):
    """Forwards to a port of this machine. A context manager.

    Attributes:
        requests: received, by path.
    """

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.requests: Counter[str] = Counter()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="counting", daemon=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> Counting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def do_POST(self) -> None:
        self.server.requests[self.path.partition("?")[0]] += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        there = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=10)
        try:
            headers = {**self.headers, "Host": f"127.0.0.1:{self.server.target}", "Connection": "close"}
            there.request(self.command, self.path, body or None, headers)
            answer = there.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        finally:
            there.close()

    do_GET = do_POST  # noqa: N815 - the base class names it

    def log_message(self, *_: object) -> None:
        """Silent."""
