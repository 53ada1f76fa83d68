"""Two engines, one of them slow, and files that come one after the other: how long each strategy takes for all of them."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.e2e.engines import Aria2
from tests.e2e.stack import Stack

MIB = 1 << 20
FILES = 48
SIZE = MIB
#: Between two requests: together four times what the slow engine can take.
EVERY_S = 0.25
SLOW = MIB
FAST = 16 * MIB
STRATEGIES = ("round-robin", "least-loaded", "capacity")


def balancer(directory: Path, rounds: int) -> dict[str, Any]:
    """First request to last `done`, of each strategy against taking turns in the same round."""
    took: dict[str, list[float]] = {strategy: [] for strategy in STRATEGIES}
    parts: dict[str, int] = {}
    for number in range(rounds):
        for strategy in STRATEGIES:
            seconds, parts[strategy] = _round(directory / f"{number}-{strategy}", strategy)
            took[strategy].append(seconds)
    figures: dict[str, Any] = {f"{strategy}_s": median(times) for strategy, times in took.items()}
    for strategy in STRATEGIES[1:]:
        ratios = [own / turns for own, turns in zip(took[strategy], took["round-robin"], strict=True)]
        figures[f"{strategy}_ratio"] = median(ratios)
    return {**figures, "files_on_the_slow_one": parts, "limit_ratio": 0.8}


def _round(directory: Path, strategy: str) -> tuple[float, int]:
    with Stack(directory, slots=2 * FILES, engines=("aria2", "aria2-2")) as stack:
        for name, limit in (("aria2", SLOW), ("aria2-2", FAST)):
            engine = stack.engines[name]
            assert isinstance(engine, Aria2)
            engine.rpc("changeGlobalOption", {"max-overall-download-limit": str(limit)})
        stack.work(HAUL_BALANCER=strategy)
        begun, ids = time.monotonic(), []
        for number in range(FILES):
            ids.append(stack.ask(f"file/{number}?size={SIZE}&seed={number}", "bench", tier="admin"))
            time.sleep(max(0.0, begun + (number + 1) * EVERY_S - time.monotonic()))
        jobs = stack.until_all(ids, timeout_s=300)
        took = max(job.events[-1].at for job in jobs) - min(job.created_at for job in jobs)
        return took, sum(job.transfer is not None and job.transfer.engine == "aria2" for job in jobs)
