"""Budgets of bandwidth with two engines at work: what they take in half a minute, beside what they may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.e2e.budgets import MIB, about, at_work, rates
from tests.e2e.stack import Stack, eventually
from worker import pipeline
from worker.jobs.limits import override_key
from worker.supervision.bandwidth.regulation import SETTLE_S

#: So little that origin and peer, which are in Python, keep up with it on a machine that does other things, too.
BUDGET = 6 * MIB
#: Others that are measured once, each for all engines.
ALSO = (2 * MIB, 20 * MIB)
MEASURED_S = 30.0
#: What is fetched in a round lasts so long, with what is fetched before it is measured.
ROUND_S = 110


def bandwidth(directory: Path, rounds: int) -> dict[str, Any]:
    """aria2 by HTTP and qBittorrent from a peer: under one budget for all engines, and under one of their tier, against the budget.

    `engines` and `tier_engines` are aria2 and qBittorrent against their halves, the medians; `also` is a budget of all engines
    in MiB/s with its ratio. `change_s` is how long both engines, asked themselves, take to go by another budget, of either kind,
    that is set while they work; `halved` is the ratio to that budget over the half minute from then on, but for the first seconds.
    """
    overall = [_overall(directory / f"overall{number}", BUDGET) for number in range(rounds)]
    tier = [_tier(directory / f"tier{number}") for number in range(rounds)]
    also = {f"{budget // MIB}": sum(_overall(directory / f"also{budget}", budget, change=False)[0]) for budget in ALSO}
    return {
        "budget": BUDGET,
        "ratio": median(sum(parts) for parts, *_ in overall),
        "ratios": [sum(parts) for parts, *_ in overall],
        "engines": _halves(overall),
        "halved": [ratio for _, ratio, _ in overall],
        "tier_ratio": median(sum(parts) for parts, *_ in tier),
        "tier_ratios": [sum(parts) for parts, *_ in tier],
        "tier_engines": _halves(tier),
        "tier_halved": [ratio for _, ratio, _ in tier],
        "also": also,
        "limit": "0.9 to 1.1",
        "change_s": max(seconds for *_, seconds in (*overall, *tier)),
        "limit_change_s": 5.0,
    }


#: What aria2, and qBittorrent, took of the budget; what both took of half of it; and how long that took to be in force.
Round = tuple[list[float], float, float]


def _overall(directory: Path, budget: int, *, change: bool = True) -> Round:
    with Stack(directory, engines=("aria2", "qbittorrent")) as stack:
        stack.work(HAUL_BANDWIDTH=str(budget))
        with at_work(stack, budget * ROUND_S // 2 if change else budget * ROUND_S // 3) as ids:

            def told() -> list[int]:
                return [engine.throttled() for engine in stack.engines.values()]

            return _round(stack, ids, budget, told, lambda rate: pipeline.set_bandwidth(stack.services, str(rate)), change=change)


def _tier(directory: Path) -> Round:
    with Stack(directory, engines=("aria2", "qbittorrent")) as stack:

        def limit(rate: int) -> None:
            stack.services.store.set_limits({override_key("tiers", "bandwidth", "free"): rate})

        limit(BUDGET)
        stack.work()
        with at_work(stack, BUDGET * ROUND_S // 2) as ids:
            jobs = [stack.until(id, "downloading") for id in ids]

            def told() -> list[int]:
                return [engine.limited(stack.gid(job)) for job, engine in zip(jobs, stack.engines.values(), strict=True)]

            return _round(stack, ids, BUDGET, told, limit, change=True)


def _round(
    stack: Stack, ids: tuple[str, str], budget: int, told: Callable[[], list[int]], give: Callable[[int], object], *, change: bool
) -> Round:
    eventually(lambda: all(about(part, budget / 2) for part in told()), "both are held to a half", 60)
    parts = _measured(stack, ids, budget)
    if not change:
        return parts, 0.0, 0.0
    begun = time.monotonic()
    give(budget // 2)
    eventually(lambda: about(sum(told()), budget / 2), "the other budget is in force", 60)
    change_s = time.monotonic() - begun
    return parts, sum(_measured(stack, ids, budget // 2)), change_s


def _measured(stack: Stack, ids: tuple[str, str], budget: int) -> list[float]:
    """What aria2, and qBittorrent, took of the budget in half a minute, from when both had followed their limits."""
    time.sleep(SETTLE_S)
    return [rate / budget for rate in rates(stack, MEASURED_S, *ids)]


def _halves(rounds: list[Round]) -> list[float]:
    return [2 * median(parts[engine] for parts, *_ in rounds) for engine in (0, 1)]
