"""A receiver of webhooks: checks who sent each event, drops repeats, and prints what is new.

    HAUL_WEBHOOK_SECRET=secret python examples/webhook_receiver.py 8099

Haul, with the same secret and HAUL_WEBHOOKS=http://127.0.0.1:8099/events, then posts there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

#: An older signature may be somebody's recording of it; what Haul posts again it signs again.
AGE_MAX_S = 300
BODY_BYTES_MAX = 1_000_000


def is_genuine(secret: bytes, header: str, body: bytes, now: float) -> bool:
    """Whether `Haul-Signature: t=<unix seconds>,v1=<hex>` was made of this body, by somebody who has the secret, just now."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at, given = parts.get("t", ""), parts.get("v1", "")
    expected = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(given.encode(), expected.encode()) and abs(now - int(at)) <= AGE_MAX_S


class Receiver(HTTPServer):
    """Listens on a port of this machine. A real one keeps `seen` where it keeps what it does with an event, in one write."""

    def __init__(self, port: int, secret: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.secret = secret.encode()
        self.seen: set[str] = set()

    def take(self, event: dict[str, object]) -> None:
        """Do something with an event, once."""
        if event["id"] not in self.seen:
            print(event["type"], event["job"], event.get("path") or event["text"], flush=True)
            self.seen.add(str(event["id"]))


class Handler(BaseHTTPRequestHandler):
    """Answers 204 for what was taken; after any other answer, and after none, the event comes again."""

    server: Receiver

    def do_POST(self) -> None:
        """Takes one event."""
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size) if size <= BODY_BYTES_MAX else b""
        if not is_genuine(self.server.secret, self.headers.get("Haul-Signature", ""), body, time.time()):
            self.send_error(403)
            return
        self.server.take(json.loads(body))
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    Receiver(int(sys.argv[1]), os.environ["HAUL_WEBHOOK_SECRET"]).serve_forever()
