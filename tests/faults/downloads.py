"""What the faults of engines are tried on: a file from a web server for aria2, a torrent with a web seed for qBittorrent."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.e2e.stack import Stack, digest
from tests.origin import content
from tests.torrents import Pack, pack, web_seeded

ENGINES = ("aria2", "qbittorrent")
#: Bytes a second of a slow download.
RATE = 300_000
#: What is told of a job that goes well.
DONE = ["job.queued", "job.started", "job.completed"]


def seeded(stack: Stack, name: str, size: int, rate: int = 0) -> Pack:
    """A torrent of one file, which the origin serves at /doc/INFOHASH/`name`."""
    return web_seeded(stack.origin, pack({name: content(size, len(name))}, name=name, single=True), rate=rate)


def ask_torrent(stack: Stack, name: str, size: int, rate: int = RATE, **spec: Any) -> str:
    """Ask for a torrent of one file, `name`, with a web seed; the job's id."""
    return stack.ask(None, name, torrent=base64.b64encode(seeded(stack, name, size, rate).document).decode(), **spec)


def ask(stack: Stack, engine: str, name: str, size: int, rate: int = RATE, **spec: Any) -> str:
    """Ask for `name` of so many bytes, from this engine; the job's id."""
    if engine == "aria2":
        uri = f"file/{name}?size={size}&seed={len(name)}&rate={rate}"
        return stack.ask(uri, name, engine=engine, **spec)
    return ask_torrent(stack, name, size, rate, engine=engine, **spec)


def served(stack: Stack, name: str) -> int:
    """Bytes the origin gave of it, to whomever."""
    return sum(count for path, count in stack.origin.bytes_served.items() if path.endswith(f"/{name}"))


def check(stack: Stack, id: str, name: str, size: int) -> Path:
    """It is done, with the right bytes, once, and nothing is left elsewhere."""
    return stack.check_delivered(id, digest(size, len(name)), name)


def put_right(stack: Stack, action: str) -> int:
    """How many of the corrections of this kind the workers' log tells of."""
    lines = [line for line in stack.tail(100_000).splitlines() if "put right" in line and f"action={action}" in line]
    return sum(int(line.partition("items=")[2].split()[0]) for line in lines)
