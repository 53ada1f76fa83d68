"""Downloads are held to their own limit and to their parts of their user's and their tier's, on all engines together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.machine import services_of
from worker.coordination.fake import FakeCoordinator
from worker.engines.fake import FakeEngine
from worker.jobs.errors import Transient
from worker.jobs.model import Progress, Source, SourceKind
from worker.jobs.tiers import DEFAULTS, FixedTiers, Limits
from worker.ports import EngineSnapshot, Item, ItemStatus, Order, Poll, Services
from worker.store.sqlite.store import SqliteStore
from worker.supervision.bandwidth import pacing
from worker.supervision.bandwidth.caps import Demand, demand, each, part, stepped
from worker.supervision.bandwidth.pacing import Pacing
from worker.supervision.diff import Terms

KIB = 1024
RATE = 1000 * KIB

WANTS = st.lists(st.none() | st.floats(1, 10.0**7), max_size=8)


@given(st.integers(10_240, 10**9), st.lists(WANTS, min_size=1, max_size=4))
def test_the_parts_of_all_engines_keep_the_budget_and_use_it_up_while_anybody_wants_it(
    rate: int, engines: list[list[float | None]]
) -> None:
    demands = [demand(wants, 0) for wants in engines]
    parts = [part(rate, here, demands[:n] + demands[n + 1 :]) for n, here in enumerate(demands)]
    assert sum(parts) <= rate
    if any(here.hungry for here in demands):
        assert sum(parts) >= rate - 2 * len(engines)
    for here, mine in zip(demands, parts, strict=True):
        assert here.hungry or mine <= here.wants


def test_downloads_that_want_all_get_the_same_wherever_they_run_and_leave_the_others_what_they_can_use() -> None:
    here: dict[str, float | None] = {"a": None, "b": 50.0, "c": None}
    assert each(1000, here, [Demand(hungry=1), Demand(modest=2, wants=200)]) == {"a": 250, "b": 50, "c": 250}
    assert each(1000, here, []) == {"a": 475, "b": 50, "c": 475}
    assert each(1000, {}, [Demand(hungry=1)]) == {}


@given(st.none() | st.floats(0, 1e12))
def test_steps_never_lower_what_is_wanted(wants: float | None) -> None:
    found = stepped(wants)
    assert (found is None) == (wants is None)
    assert found is None or wants is None or max(1.0, wants) * 0.999 <= found <= max(1.0, wants) * 1.26


# ---- an engine's owner ------------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """The pacing of the engine `here`, beside another one, `there`; time is the test's."""

    services: Services
    engine: FakeEngine
    limits: list[Limits]
    now: float = 100.0
    terms: dict[str, Terms] = field(default_factory=dict)
    speeds: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pacing = Pacing(self.services, "here")

    def run(self, name: str, user: str = "ann", tier: str = "free", max_speed: int | None = None) -> str:
        """A download that runs."""
        [handle] = self.submit(name, user=user, tier=tier, max_speed=max_speed)
        return handle

    def submit(self, *names: str, user: str = "ann", tier: str = "free", max_speed: int | None = None) -> list[str]:
        orders = [Order(name, 1, Source(SourceKind.HTTP, f"http://h/{name}"), f"{self.engine.directory}/{name}") for name in names]
        handles = [self.engine.handle(name, 1) for name in names]
        self.terms |= dict.fromkeys(handles, Terms(user, tier, max_speed))
        assert not any(self.engine.submit(self.pacing.opened(orders, self.engine.handle, self.terms, self.now)))
        return handles

    def poll(self) -> Poll:
        seen = self.engine.poll()
        items = {name: replace(item, progress=Progress(1, None, self.speeds.get(name, 0))) for name, item in seen.items.items()}
        return replace(seen, items=items)

    def keep(self, seconds: float = 2.0) -> dict[str, int | None]:
        """One division, so much later; what the engine holds each download to."""
        self.now += seconds
        poll = self.poll()
        if self.pacing.due(poll, self.now):
            self.pacing.keep(self.engine, poll, self.terms, self.now)
        return {handle: work.limit for handle, work in self.engine._work.items()}

    def there(self, **budgets: Demand) -> None:
        """What the other engine's owner tells."""
        told = {f"tier:{name}": {"hungry": d.hungry, "modest": d.modest, "wants": d.wants, "speed": d.speed} for name, d in budgets.items()}
        snapshot = EngineSnapshot("there", 1, (), "/", None, 0, 0, 0, 0.0, "o", budgets=told)
        self.services.coordinator.put_snapshot(snapshot)

    def allow(self, **bandwidths: int | None) -> None:
        """The tiers' bandwidths, from now on."""
        tiers = {**DEFAULTS, **{name: replace(DEFAULTS[name], bandwidth=rate) for name, rate in bandwidths.items()}}
        self.limits[0] = replace(self.limits[0], tiers=tiers)


class _Tiers(FixedTiers):
    def __init__(self, limits: list[Limits]) -> None:
        super().__init__()
        self._now = limits

    def fresh(self) -> Limits:
        return self._now[0]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    limits = [Limits()]
    here, there = FakeEngine(str(tmp_path), name="here", slots=200), FakeEngine(str(tmp_path), name="there")
    store = SqliteStore(tmp_path / "haul.db")
    desk = Desk(services_of(tmp_path, store, [here, there], tiers=_Tiers(limits)), here, limits)
    desk.there()
    yield desk
    store.close()


def test_without_any_limit_the_engine_is_told_nothing(desk: Desk) -> None:
    desk.keep()
    desk.run("one")
    assert desk.keep() == {"here-one-1": None}
    assert desk.engine.calls["limit"] == 0


def test_a_job_begins_with_its_own_limit_and_keeps_it(desk: Desk) -> None:
    handle = desk.run("one", max_speed=100_000)
    assert desk.engine._work[handle].limit == 97 * KIB
    assert desk.keep() == {handle: 97 * KIB}


def test_a_tiers_bandwidth_is_divided_over_its_downloads_here_and_elsewhere(desk: Desk) -> None:
    desk.allow(free=RATE)
    one, two, other = desk.run("one"), desk.run("two", user="bob"), desk.run("three", tier="vip")
    assert desk.keep() == {one: 500 * KIB, two: 500 * KIB, other: None}
    desk.there(free=Demand(hungry=2))
    assert desk.keep() == {one: 250 * KIB, two: 250 * KIB, other: None}
    assert desk.pacing.shared()["tier:free"]["hungry"] == 2


def test_what_one_cannot_use_the_others_get_and_it_comes_back(desk: Desk) -> None:
    desk.allow(free=RATE)
    slow, fast = desk.run("slow"), desk.run("fast")
    desk.speeds = {slow: 50 * KIB, fast: 500 * KIB}
    for _ in range(20):
        held = desk.keep()
    assert held[slow] is not None
    assert held[fast] is not None
    assert 50 * KIB <= held[slow] <= 110 * KIB
    assert held[fast] >= 880 * KIB
    for _ in range(40):
        desk.speeds = {handle: limit or 0 for handle, limit in held.items()}
        held = desk.keep()
    assert held == {slow: 500 * KIB, fast: 500 * KIB}


def test_a_users_own_bandwidth_and_a_jobs_limit_are_kept_within_the_tiers(desk: Desk) -> None:
    desk.allow(free=RATE)
    desk.limits[0] = replace(desk.limits[0], users={"ann": {"bandwidth": 200 * KIB}})
    anns, bobs, slow = [desk.run("a1"), desk.run("a2")], desk.run("b", user="bob"), desk.run("c", user="bob", max_speed=100 * KIB)
    assert desk.keep() == {anns[0]: 100 * KIB, anns[1]: 100 * KIB, bobs: 700 * KIB, slow: 100 * KIB}


def test_what_is_started_begins_with_what_it_would_have_if_all_newcomers_shared_with_those_at_work(desk: Desk) -> None:
    desk.allow(free=RATE)
    desk.submit("one", "two")
    assert [work.limit for work in desk.engine._work.values()] == [500 * KIB] * 2
    assert desk.keep() == {"here-one-1": 500 * KIB, "here-two-1": 500 * KIB}
    desk.there(free=Demand(hungry=4))
    desk.keep()
    desk.submit("three", "four")
    assert desk.engine._work["here-three-1"].limit == RATE // 8 // KIB * KIB


def test_a_change_is_dealt_with_at_once_and_a_limit_that_is_taken_back_is_lifted(desk: Desk) -> None:
    desk.allow(free=RATE)
    handle = desk.run("one")
    assert desk.keep() == {handle: RATE}
    desk.allow(free=RATE // 2)
    assert desk.keep(0.1) == {handle: RATE // 2}
    desk.allow(free=None)
    assert desk.keep(0.1) == {handle: None}
    calls = desk.engine.calls["limit"]
    desk.keep(100)
    assert desk.engine.calls["limit"] == calls, "nothing is left to be told"


def test_a_new_owner_lifts_what_is_no_limit_any_more(desk: Desk) -> None:
    handle = desk.run("one", max_speed=100 * KIB)
    desk.pacing = Pacing(desk.services, "here")
    desk.terms[handle] = Terms("ann", "free", None)
    assert desk.keep() == {handle: None}


def test_what_is_resumed_loses_the_limit_it_had_when_it_was_paused(desk: Desk) -> None:
    handle = desk.run("one", max_speed=100 * KIB)
    desk.engine.pause([handle])
    desk.pacing = Pacing(desk.services, "here")
    desk.terms.clear()
    desk.keep()
    assert desk.submit("one") == [handle]
    assert desk.keep() == {handle: None}


def test_what_somebody_changed_is_put_right_and_a_restart_gives_all_again(desk: Desk) -> None:
    handle = desk.run("one", max_speed=100 * KIB)
    desk.keep()
    desk.engine._work[handle].limit = 5
    desk.keep(2)
    assert desk.keep(pacing.AGAIN_S) == {handle: 100 * KIB}
    desk.engine._work[handle].limit = 5
    desk.engine.restart()
    assert desk.keep(0.1) == {handle: 100 * KIB}


def test_a_round_is_one_call_and_tells_what_moved_with_a_bounded_part_of_the_rest(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    limit = desk.engine.limit
    monkeypatch.setattr(desk.engine, "limit", lambda limits: told.append(len(limits)) or limit(limits))  # type: ignore[func-returns-value]
    desk.allow(free=150 * RATE)
    desk.keep()
    desk.speeds = dict.fromkeys(desk.submit(*(f"n{n}" for n in range(150))), RATE)
    for _ in range(12):
        desk.keep()
    assert max(told) <= pacing.AGAIN_MAX
    desk.allow(free=300 * RATE)
    told.clear()
    desk.keep()
    assert told == [150]

    monkeypatch.setattr(pacing, "MOVES_MAX", 60)
    desk.allow(free=150 * RATE)
    told.clear()
    for _ in range(4):
        desk.keep(0.1)
    assert told == [60, 60, 30], "and what is too much for a call waits for the next tick"
    assert {work.limit for work in desk.engine._work.values()} == {RATE}


def test_an_engine_that_shows_another_limit_is_told_of_once_and_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = desk.run("one", max_speed=100 * KIB)
    monkeypatch.setattr(desk.engine, "limit", lambda limits: dict.fromkeys(limits, 7))
    with capture_logs() as logged:
        for _ in range(4):
            desk.keep(pacing.AGAIN_S)
    assert [line["event"] for line in logged] == ["downloads do not show the limit they were given"]
    assert desk.pacing.unheld == {handle}
    monkeypatch.undo()
    desk.keep(pacing.AGAIN_S)
    assert not desk.pacing.unheld


def test_without_redis_the_others_count_as_they_were_seen_last(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.allow(free=RATE)
    handle = desk.run("one")
    desk.there(free=Demand(hungry=1))
    assert desk.keep() == {handle: 500 * KIB}

    def away(_self: Any) -> dict[str, EngineSnapshot]:
        raise Transient("redis", "away")

    monkeypatch.setattr(FakeCoordinator, "snapshots", away)
    assert desk.keep(pacing.AGAIN_S) == {handle: 500 * KIB}
    desk.pacing = Pacing(desk.services, "here")
    assert desk.keep() == {handle: 500 * KIB}, "of one that was never seen, as much as the downloads here"


def test_what_waits_in_the_engines_own_queue_has_a_limit_before_it_begins(desk: Desk) -> None:
    desk.allow(free=RATE)
    desk.engine.slots = 1
    one, two = desk.submit("one", "two")
    assert desk.poll().items[two].status is ItemStatus.WAITING
    assert desk.keep() == {one: RATE, two: RATE // 2}


def test_items_of_others_are_left_alone(desk: Desk) -> None:
    desk.allow(free=RATE)
    desk.run("one")
    desk.terms.clear()
    seen = desk.poll()
    assert isinstance(next(iter(seen.items.values())), Item)
    calls = desk.engine.calls["limit"]
    desk.keep(50)
    assert desk.engine.calls["limit"] == calls
