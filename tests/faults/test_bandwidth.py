"""Bandwidth: engines that forget their limits, owners that die, Redis away"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.budgets import BUDGET, MIB, about, at_work, held, limits, parts, rates
from tests.e2e.stack import Stack, eventually
from tests.faults.catalogue import fault
from worker import pipeline
from worker.jobs.limits import override_key
from worker.supervision.bandwidth.regulation import MOST, SETTLE_S

TIER = override_key("tiers", "bandwidth", "free")
#: Until another owner has the leases of one that died, and every limit is given again.
SOON_S = 60.0
#: aria2 makes up at once for the ten seconds before it was told more, and repeats that every ten seconds, less each time; until
#: then it is chance whether half a minute holds two of these or three.
EVEN_S = 50.0
#: Three measurements of half a minute, or the wait for an hour.
MINUTES_S = 600


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Stack]:
    """A stack of this test alone with both engines, and no worker yet."""
    with Stack(tmp_path / "stack", engines=("aria2", "qbittorrent")) as running:
        yield running


def halves(stack: Stack, *ids: str) -> bool:
    """Whether both engines, and both downloads, are held to a half of their budgets, as the engines say."""
    return all(about(part, 0.5) for part in parts(stack)) and held(stack, MIB, *ids)


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
        eventually(lambda: held(both, MIB // 2, *ids), "each has a half", SOON_S, lambda: limits(both, *ids))
        worker.kill()
        before = limits(both, *ids)
        pipeline.set_bandwidth(both.services, str(BUDGET))
        both.services.store.set_limits({TIER: 2 * MIB})
        assert limits(both, *ids) == before
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
    holds="nobody takes what another has: in all that time the parts are together not more than engines may be told of them",
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
        assert max(part for part, _ in seen) <= MOST, seen
        assert max(part for _, part in seen) <= MOST * 2 * MIB, seen
        both.redis.restart()
        both.redis.await_ready()
        eventually(lambda: halves(both, *ids), "each has its half", SOON_S, lambda: (parts(both), limits(both, *ids)))
        both.cancel_all(ids)


@fault(
    "A budget changes, by its schedule or by hand, while both engines take all they get",
    provoked="a download on each, under one budget; it is made half, then twice as much",
    holds="the engines are told soon, and over half a minute, once they come evenly, each budget is kept, and used, to a tenth",
)
@pytest.mark.timeout(MINUTES_S)
def test_the_rate_is_the_budget_before_and_after_it_changes(both: Stack) -> None:
    both.work(HAUL_BANDWIDTH=str(BUDGET))
    with at_work(both, 600 * MIB) as ids:
        eventually(lambda: all(about(part, 0.5) for part in parts(both)), "each has a half", SOON_S, lambda: parts(both))
        for budget, wait_s in ((BUDGET, SETTLE_S), (BUDGET // 2, SETTLE_S), (BUDGET, EVEN_S)):
            pipeline.set_bandwidth(both.services, str(budget))
            eventually(lambda b=budget: about(sum(parts(both)), b / BUDGET), "is in force", SOON_S, lambda: parts(both))  # type: ignore[misc]
            rates(both, wait_s, *ids)
            seen = [rate / budget for rate in rates(both, 30.0, *ids)]
            assert 0.9 <= sum(seen) <= 1.1, seen
        both.cancel_all(ids)


@fault(
    "The hour of a schedule comes while both engines take all they get",
    provoked="a schedule whose window begins within three minutes, and a download on each engine",
    holds="the rate is that of before, and from five seconds after the hour on that of the window, over half a minute to a tenth",
)
@pytest.mark.timeout(MINUTES_S)
def test_the_rate_follows_a_schedule_that_turns(both: Stack) -> None:
    turns = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=3)
    end = turns + timedelta(minutes=30)
    both.work(HAUL_BANDWIDTH=f"{BUDGET}; Mon-Sun {turns:%H:%M}-{end:%H:%M} {BUDGET // 2}", HAUL_TIMEZONE="UTC")
    with at_work(both, 900 * MIB) as ids:
        eventually(lambda: all(about(part, 0.5) for part in parts(both)), "each has a half", SOON_S, lambda: parts(both))
        rates(both, SETTLE_S, *ids)
        seen = [rate / BUDGET for rate in rates(both, 30.0, *ids)]
        assert 0.9 <= sum(seen) <= 1.1, seen
        eventually(lambda: about(sum(parts(both)), 0.5), "the hour has come", 240.0, lambda: parts(both))
        assert (datetime.now(UTC) - turns).total_seconds() <= 5.0
        rates(both, SETTLE_S, *ids)
        seen = [rate / (BUDGET // 2) for rate in rates(both, 30.0, *ids)]
        assert 0.9 <= sum(seen) <= 1.1, seen
        both.cancel_all(ids)
