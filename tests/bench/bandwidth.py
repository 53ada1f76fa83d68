"""A budget of bandwidth with two engines at work: what they have after half a minute, beside what they may have."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from tests.contract.peer import Peer
from tests.e2e.engines import Qbittorrent
from tests.e2e.stack import Stack, eventually
from tests.origin import content
from tests.torrents import pack

MIB = 1 << 20
BUDGET = 12 * MIB
MEASURED_S = 30.0
#: More than is fetched in a round.
SIZE = 450 * MIB


def bandwidth(directory: Path, rounds: int) -> dict[str, Any]:
    """aria2 by HTTP and qBittorrent from a peer under one budget, against the budget."""
    found = [_round(directory / str(number)) for number in range(rounds)]
    return {"budget": BUDGET, "ratio": median(found), "ratios": found, "limit": "0.9 to 1.1"}


def _round(directory: Path) -> float:
    with Stack(directory, engines=("aria2", "qbittorrent")) as stack:
        stack.work(HAUL_BANDWIDTH=str(BUDGET))
        one = stack.ask(f"file/one.bin?size={SIZE}&seed=1", "ann")
        made = pack({"only": content(SIZE, 2)}, name="two.bin", single=True)
        two = stack.ask_all([{"uri": stack.origin.document("two.torrent", made.document), "user": "bob", "engine": "qbittorrent"}])[0]
        qbittorrent = stack.engines["qbittorrent"]
        assert isinstance(qbittorrent, Qbittorrent)
        # From a peer it comes evenly; a web seed gives megabytes at once and then nothing for seconds.
        with closing(Peer(made, qbittorrent.ask("app/preferences")["listen_port"])):
            parts = [engine.throttled for engine in stack.engines.values()]
            eventually(lambda: all(0.4 < part() / BUDGET < 0.6 for part in parts), "both are held to a half", 60)
            before, began = _fetched(stack, one, two), time.monotonic()
            time.sleep(MEASURED_S)
            return (_fetched(stack, one, two) - before) / (time.monotonic() - began) / BUDGET


def _fetched(stack: Stack, one: str, two: str) -> int:
    rows = stack.services.coordinator.progress({"aria2": [one], "qbittorrent": [two]})
    return sum(row.done for row in rows.values())
