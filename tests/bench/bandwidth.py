"""Budgets of bandwidth with two engines at work: what they have after half a minute, beside what they may have."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.e2e.budgets import MIB, at_work
from tests.e2e.stack import Stack, eventually
from worker import pipeline
from worker.jobs.limits import override_key

#: So little that origin and peer, which are in Python, keep up with it on a machine that does other things, too.
BUDGET = 6 * MIB
#: What is set at run time, over the budget of the settings, and by how much the engines may be off it when it is in force.
LESS, OFF = 3 * MIB, 0.05
MEASURED_S = 30.0
#: More than is fetched in a round.
SIZE = 300 * MIB


def bandwidth(directory: Path, rounds: int) -> dict[str, Any]:
    """aria2 by HTTP and qBittorrent from a peer: under one budget for all engines, and under one of their tier, against the budget.

    `change_s` is how long both engines, asked themselves, take to go by another budget, of either kind, that is set while they work.
    """
    overall, changes, tier = [], [], []
    for number in range(rounds):
        ratio, change_s = _overall(directory / f"overall{number}")
        overall.append(ratio)
        changes.append(change_s)
        ratio, change_s = _tier(directory / f"tier{number}")
        tier.append(ratio)
        changes.append(change_s)
    return {
        "budget": BUDGET,
        "ratio": median(overall),
        "ratios": overall,
        "tier_ratio": median(tier),
        "tier_ratios": tier,
        "limit": "0.9 to 1.1",
        "change_s": max(changes),
        "limit_change_s": 5.0,
    }


def _overall(directory: Path) -> tuple[float, float]:
    with Stack(directory, engines=("aria2", "qbittorrent")) as stack:
        stack.work(HAUL_BANDWIDTH=str(BUDGET))
        with at_work(stack, SIZE) as ids:
            parts = [engine.throttled for engine in stack.engines.values()]
            eventually(lambda: all(0.4 < part() / BUDGET < 0.6 for part in parts), "both are held to a half", 60)
            ratio = _measured(stack, ids)
            begun = time.monotonic()
            pipeline.set_bandwidth(stack.services, str(LESS))
            eventually(lambda: 1 - OFF < sum(part() for part in parts) / LESS <= 1, "the other budget is in force", 60)
            return ratio, time.monotonic() - begun


def _tier(directory: Path) -> tuple[float, float]:
    with Stack(directory, engines=("aria2", "qbittorrent")) as stack:
        stack.services.store.set_limits({override_key("tiers", "bandwidth", "free"): BUDGET})
        stack.work()
        with at_work(stack, SIZE) as ids:
            jobs = [stack.until(id, "downloading") for id in ids]
            pairs = list(zip(jobs, stack.engines.values(), strict=True))

            def parts() -> list[int]:
                return [engine.limited(stack.gid(job)) for job, engine in pairs]

            eventually(lambda: all(0.4 < part / BUDGET < 0.6 for part in parts()), "each is held to a half", 60)
            ratio = _measured(stack, ids)
            begun = time.monotonic()
            stack.services.store.set_limits({override_key("tiers", "bandwidth", "free"): LESS})
            eventually(lambda: 1 - OFF < sum(parts()) / LESS <= 1, "the other budget is in force", 60)
            return ratio, time.monotonic() - begun


def _measured(stack: Stack, ids: tuple[str, str]) -> float:
    """What came in half a minute, over what might."""
    before, began = _fetched(stack, *ids), time.monotonic()
    time.sleep(MEASURED_S)
    return (_fetched(stack, *ids) - before) / (time.monotonic() - began) / BUDGET


def _fetched(stack: Stack, one: str, two: str) -> int:
    rows = stack.services.coordinator.progress({"aria2": [one], "qbittorrent": [two]})
    return sum(row.done for row in rows.values())
