"""What the kernel's guard costs: the speed of a download and of many small requests through it, over those without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.egress.lab import Lab, lab, missing

#: As long a file as makes a second of it at the speed of a virtual cable, and so many small ones.
LARGE_BYTES, SMALL = 1 << 30, 300
#: The best of each is compared, for neighbours only ever slow it down.
ROUNDS_MIN = 10
PORT = 40_123
#: Where the world answers; a public address, as the guard lets through.
ORIGIN = f"http://45.10.0.1:{PORT}"
SERVER = """
import os, socketserver, sys
from http.server import BaseHTTPRequestHandler
class Serve(BaseHTTPRequestHandler):
    def do_GET(self):
        size = int(self.path[1:])
        self.send_response(200); self.send_header("Content-Length", str(size)); self.end_headers(); self.wfile.flush()
        with open(sys.argv[1], "rb") as file:
            sent = 0
            while sent < size:
                sent += os.sendfile(self.connection.fileno(), file.fileno(), sent, size - sent)
    def log_message(self, *_): pass
socketserver.ThreadingTCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(("45.10.0.1", int(sys.argv[2])), Serve)
print("ready", flush=True)
server.serve_forever()
"""


def guard(directory: Path, rounds: int) -> dict[str, Any]:
    """Turn about without and with the rules, in network namespaces; nothing where root may not have them."""
    if why := missing():
        return {"skipped": why}
    without, guarded = [], []
    file = directory / "large"
    with file.open("wb") as made:
        made.truncate(LARGE_BYTES)
    with lab() as world, world.answering(sys.executable, "-c", SERVER, str(file), str(PORT)):
        for _ in range(max(rounds, ROUNDS_MIN)):
            without.append(_look(world))
            world.guard()
            guarded.append(_look(world))
            world.run("nft", "flush", "ruleset")
    best = {name: max(each[name] for each in guarded) / max(each[name] for each in without) for name in ("large", "small")}
    return {"large_ratio": best["large"], "small_ratio": best["small"], "limit": 0.95}


def _look(world: Lab) -> dict[str, float]:
    """Bytes a second of one large file; small ones a second, each by a connection of its own."""
    large = world.run("curl", "-s", "-o", "/dev/null", "-w", "%{speed_download}", f"{ORIGIN}/{LARGE_BYTES}")
    urls = [part for _ in range(SMALL) for part in ("-o", "/dev/null", f"{ORIGIN}/1000")]
    small = world.run("curl", "-s", "-H", "Connection: close", "-w", "%{time_total}\n", *urls)
    return {"large": float(large.stdout), "small": SMALL / sum(map(float, small.stdout.split()))}
