"""Bandwidth: engines that forget their limits, owners that die, Redis away"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.budgets import BUDGET, MIB, at_work, limits, parts
from tests.e2e.stack import Stack, eventually
from tests.faults.catalogue import fault
from worker import pipeline
from worker.jobs.limits import override_key

TIER = override_key("tiers", "bandwidth", "free")
#: Until another owner has the leases of one that died, and every limit is given again.
SOON_S = 60.0


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Stack]:
    """A stack of this test alone with both engines, and no worker yet."""
    with Stack(tmp_path / "stack", engines=("aria2", "qbittorrent")) as running:
        yield running


def halves(stack: Stack, *ids: str) -> bool:
    """Whether both engines, and both downloads, are held to a half of their budgets, as the engines say."""
    return all(0.4 < part < 0.6 for part in parts(stack)) and limits(stack, *ids) == [MIB, MIB]


@fault(
    "Both engines are killed while they are held to budgets",
    provoked="a budget for all engines and one of the tier, a download on each; both are sent SIGKILL and started again",
    holds="the engines, asked themselves, are held to the same parts again, and so are their downloads",
)
def test_engines_that_were_killed_are_given_their_limits_again(both: Stack) -> None:
    both.services.store.set_limits({TIER: 2 * MIB})
    both.work(HAUL_BANDWIDTH=str(BUDGET))
    with at_work(both) as ids:
        eventually(lambda: halves(both, *ids), "each has a half", SOON_S, lambda: (parts(both), limits(both, *ids)))
        for engine in both.engines.values():
            engine.server.process.kill()
            engine.server.process.wait()
            engine.server.restart()
            engine.server.await_ready()
        eventually(lambda: halves(both, *ids), "and has it again", SOON_S, lambda: (parts(both), limits(both, *ids)))
        both.cancel_all(ids)


@fault(
    "The budgets are changed while nobody looks after the engines",
    provoked="the worker is sent SIGKILL; the budget of all engines and the tier's are changed; another worker is started",
    holds="the engines keep to the old limits until then, and are held to the new ones within the time of a take-over",
)
def test_budgets_that_were_changed_between_two_owners_are_in_force_with_the_next_one(both: Stack) -> None:
    both.services.store.set_limits({TIER: MIB})
    worker = both.work(HAUL_BANDWIDTH=str(BUDGET // 2))
    with at_work(both) as ids:
        eventually(lambda: limits(both, *ids) == [MIB // 2] * 2, "each has a half", SOON_S, lambda: limits(both, *ids))
        worker.kill()
        pipeline.set_bandwidth(both.services, str(BUDGET))
        both.services.store.set_limits({TIER: 2 * MIB})
        assert limits(both, *ids) == [MIB // 2] * 2
        both.work()
        eventually(lambda: halves(both, *ids), "the new ones are in force", SOON_S, lambda: (parts(both), limits(both, *ids)))
        pipeline.set_bandwidth(both.services, None)
        both.services.store.set_limits({}, drop=[TIER])
        eventually(
            lambda: limits(both, *ids) == [0, 0] and parts(both) == [0, 0], "lifted", SOON_S, lambda: (parts(both), limits(both, *ids))
        )
        both.cancel_all(ids)


@fault(
    "Redis is away while two engines share budgets",
    provoked="Redis is sent SIGKILL, and started again after a hundred looks, amid two downloads that share both kinds of budgets",
    holds="nobody takes what another has: in all that time the parts are together not more than the budgets",
)
def test_without_redis_the_parts_stay_within_the_budgets(both: Stack) -> None:
    both.services.store.set_limits({TIER: 2 * MIB})
    both.work(HAUL_BANDWIDTH=str(BUDGET))
    with at_work(both) as ids:
        eventually(lambda: halves(both, *ids), "each has a half", SOON_S, lambda: (parts(both), limits(both, *ids)))
        both.redis.process.kill()
        both.redis.process.wait()
        seen = []

        def looked() -> bool:
            seen.append((sum(parts(both)), sum(limits(both, *ids))))
            return len(seen) >= 100

        eventually(looked, "a hundred looks", SOON_S)
        assert max(part for part, _ in seen) <= 1, seen
        assert max(part for _, part in seen) <= 2 * MIB, seen
        both.redis.restart()
        both.redis.await_ready()
        eventually(lambda: halves(both, *ids), "each has its half", SOON_S, lambda: (parts(both), limits(both, *ids)))
        both.cancel_all(ids)
