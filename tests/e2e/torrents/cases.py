"""Torrents of every shape, and the doors they come by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from tests.origin import Origin, content
from tests.torrents import FILES, Pack, Version, pack, web_seeded

ENGINES = ("aria2", "qbittorrent")
#: Beside everything else that runs; a torrent alone takes a second or two.
DONE_S = 60.0
#: Of the stack that gives up soon.
PATIENCE_S = "5"
HOSTILE: Mapping[str, bytes] = {
    "line\nbreak \x01 and \x7f.bin": content(40_000, 1),
    f"{'n' * 300}.bin": content(50_000, 2),
    f"{'ü' * 150}/{'é' * 140}.mkv": content(60_000, 3),
}
#: Of a hundred thousand.
LAST = "100/last.bin"
each = pytest.mark.parametrize("engine", ENGINES)


@dataclass(frozen=True)
class Case:
    """How a torrent is asked for.

    Attributes:
        door: the way in, of its document or its magnet link.
        select: which of its files, from 1, padding not counted.
        web: its content comes from a web server and from nobody else.
    """

    door: Literal["document", "api", "client", "magnet", "url", "flaky url"] = "document"
    version: Version = "v1"
    select: tuple[int, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=lambda: FILES)
    single: bool = False
    web: bool = False

    def made(self, origin: Origin, name: str) -> Pack:
        """A torrent nobody else has."""
        trackers = () if self.web else (origin.url("announce"),)
        made = pack(self.files, name=name, single=self.single, version=self.version, trackers=trackers)
        return web_seeded(origin, made) if self.web else made


CASES: Mapping[str, Case] = {
    "folder": Case(),
    "one-file": Case(files={"only": content(200_000, 9)}, single=True),
    "selected": Case(select=(1, 3)),
    "selected-one": Case(select=(2,)),
    "api": Case("api"),
    "client": Case("client", select=(1, 2)),
    "magnet": Case("magnet"),
    "magnet-selected": Case("magnet", select=(1, 3)),
    "url": Case("url"),
    "url-selected": Case("url", select=(2, 3)),
    "url-flaky": Case("flaky url"),
    "hybrid": Case(version="hybrid"),
    "hybrid-selected": Case(version="hybrid", select=(1, 3)),
    "hybrid-magnet": Case("magnet", version="hybrid"),
    "hybrid-magnet-selected": Case("magnet", version="hybrid", select=(2, 3)),
    "web": Case(web=True),
    "web-one-file": Case(files={"only": content(200_000, 10)}, single=True, web=True),
    "web-hybrid": Case(version="hybrid", web=True),
    "hostile": Case(files=HOSTILE),
}
