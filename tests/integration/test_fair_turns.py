"""Fair turns for real: admission over a real store and a real Valkey; engines and time are simulated."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis as client

from tests.machine import services_of
from worker.admission.admit import admit
from worker.admission.queue import rebuild
from worker.cli.servers import Server
from worker.coordination.redis import RedisCoordinator
from worker.engines.fake import FakeEngine
from worker.jobs.model import Job, Request, Source, SourceKind
from worker.jobs.states import Cause, State
from worker.jobs.tiers import FixedTiers, Tier
from worker.pipeline import accept, overview, why
from worker.ports import Change, EngineSnapshot, Services
from worker.store.sqlite.store import SqliteStore

TIERS = FixedTiers({"free": Tier("free"), "vip": Tier("vip", weight=4), "three at once": Tier("three at once", running=3)})
SLOTS = 8


class Site:
    """One engine whose jobs end when the simulated time has come."""

    def __init__(self, directory: Path, redis: RedisCoordinator, *, slots: int = SLOTS) -> None:
        directory.mkdir(parents=True)
        self.now, self.slots, self.random = 1_000.0, slots, random.Random(1)
        self.store = SqliteStore(directory / "haul.db", lambda: self.now)
        engine = FakeEngine(str(directory), slots=slots)
        self.services: Services = services_of(directory, self.store, [engine], coordinator=redis, tiers=TIERS)
        self.ends: list[tuple[float, str]] = []
        self.asked: dict[str, float] = {}
        self.heavy: set[str] = set()
        self.started: dict[str, tuple[str, float]] = {}

    def ask(self, user: str, jobs: int, **request: Any) -> list[str]:
        source = Source(SourceKind.HTTP, "http://host/x")
        answers = accept(self.services, [Request(source, user, f"{user} {n}", **request) for n in range(jobs)])
        ids = [answer.job.id for answer in answers if not isinstance(answer, Exception)]
        self.asked |= dict.fromkeys(ids, self.now)
        return ids

    def admit(self) -> list[Job]:
        """Admission until nothing more starts."""
        snapshot = EngineSnapshot("fake", self.slots, ("http",), "/x", 10**12, 0, 0, 0, time.time(), "o")
        self.services.coordinator.put_snapshot(snapshot)
        while admit(self.services, 100):
            pass
        fresh = [job for job in self.store.in_state(State.SUBMITTING, 500) if job.id not in self.started]
        for job in fresh:
            self.started[job.id] = (job.user, self.now - self.asked[job.id])
            heapq.heappush(self.ends, (self.now + self.random.uniform(5.0, 15.0), job.id))
        return fresh

    def end_one(self) -> None:
        self.now, id = heapq.heappop(self.ends)
        job = self.store.get([id])[id]
        [applied] = self.store.apply([Change(job, job.moved(State.FAILED, self.now, "ended", cause=Cause.ENGINE))])
        assert applied.won

    def last(self, user: str, ids: list[str]) -> str:
        """The one that is to start last."""
        places = {id: self.services.coordinator.waiting_place(id, user) for id in ids}
        return max(ids, key=lambda id: -1 if places[id] is None else places[id])

    def running(self) -> Counter[str]:
        return Counter(job.user for job in self.store.in_state(State.SUBMITTING, 500))


@pytest.fixture
def site(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[RedisCoordinator] = []

    def make(**changes: Any) -> Site:
        made.append(RedisCoordinator(valkey.url, prefix=f"{key_prefix}{len(made)}", max_connections=4))
        return Site(tmp_path / str(len(made)), made[-1], **changes)

    yield make
    for redis in made:
        with closing(redis):
            pass


NINE = [f"user {n}" for n in range(9)]


def waits_of_nine(site: Site, flush: Callable[[], object] | None = None) -> Mapping[str, float]:
    """How long each of nine users waited in all for five jobs."""
    for user in NINE:
        site.ask(user, 5)
    left = set(site.asked) - site.heavy
    while True:
        left -= {job.id for job in site.admit()}
        assert sum(site.running().values()) == min(SLOTS, sum(site.running().values()) + site.services.coordinator.waiting_size())
        if not left:
            break
        site.end_one()
        if flush is not None and len(left) < 25:
            flush()
            assert site.services.coordinator.waiting_size() == 0
            rebuild(site.services)
            flush = None
    waits = dict.fromkeys(NINE, 0.0)
    for user, waited in site.started.values():
        if user in waits:
            waits[user] += waited
    return waits


@pytest.mark.parametrize("emptied", [False, True], ids=["", "Redis is emptied on the way"])
def test_nine_users_wait_little_longer_when_a_tenth_asks_for_five_hundred_jobs(
    site: Callable[..., Site], valkey: Server, emptied: bool
) -> None:
    alone, beside = site(), site()
    beside.heavy = set(beside.ask("heavy", 500))
    before = waits_of_nine(alone)

    def flush() -> None:
        with closing(client.Redis.from_url(valkey.url)) as raw:
            raw.flushall()

    after = waits_of_nine(beside, flush if emptied else None)
    assert sum(after.values()) <= 1.3 * sum(before.values()), (before, after)
    if not emptied:  # that lost who had waited longest
        assert max(after.values()) <= 1.3 * max(before.values()), (before, after)


def test_a_user_at_the_limit_of_running_jobs_keeps_nobody_waiting_and_no_slot_free(site: Callable[..., Site]) -> None:
    here = site()
    here.ask("limited", 300, tier="three at once")
    assert Counter(job.user for job in here.admit()) == {"limited": 3}
    here.ask("ann", 4)
    assert Counter(job.user for job in here.admit()) == {"ann": 4}
    for _ in range(20):
        here.end_one()
        here.admit()
        assert here.running()["limited"] == 3


def test_weights_are_those_that_hold_now(site: Callable[..., Site]) -> None:
    here = site(slots=10)
    here.ask("ann", 60)
    here.ask("bob", 60, tier="vip")
    here.admit()
    assert here.running()["bob"] == pytest.approx(8, abs=1)
    object.__setattr__(here.services, "tiers", FixedTiers({"free": Tier("free", weight=4), "vip": Tier("vip")}))
    for _ in range(25):
        here.end_one()
        here.admit()
    assert here.running()["ann"] == pytest.approx(8, abs=1)


def test_an_admission_asks_redis_and_the_store_as_often_however_many_jobs_wait(site: Callable[..., Site]) -> None:
    here = site()

    def calls(admissions: int) -> int:
        asked: list[str] = []
        counted = {name: Counting(getattr(here.services, name), asked) for name in ("store", "coordinator")}
        services = replace(here.services, **counted)  # type: ignore[arg-type]
        for _ in range(admissions):
            here.admit()
            here.end_one()
            asked.clear()
            assert admit(services, 100) == 1
        here.admit()
        return len(asked)

    here.ask("a", 20)
    few = calls(1)
    for n in range(40):
        here.ask(f"user {n}", 50)
    assert calls(2) <= few <= 17


class Counting:
    """Notes each call."""

    def __init__(self, inner: Any, asked: list[str]) -> None:
        self._inner, self._asked = inner, asked

    def __getattr__(self, name: str) -> Any:
        self._asked.append(name)
        return getattr(self._inner, name)


def test_why_and_queue_tell_the_place_the_reason_and_the_wait(site: Callable[..., Site]) -> None:
    here = site()
    here.ask("heavy", 100)
    here.ask("limited", 60, tier="three at once")
    mine = here.ask("ann", 5)
    here.admit()
    unknown = why(here.services, here.last("ann", mine))
    assert "how long that takes is unknown" in unknown.text
    assert (unknown.reason, unknown.of) == ("slots", here.services.coordinator.waiting_size())
    for _ in range(30):
        here.end_one()
        here.admit()
    last = here.last("bob", here.ask("bob", 9))
    told = why(here.services, last)
    assert told.text.startswith("all 8 slots of fake are taken; it is about the ")
    assert told.place is not None
    assert told.wait_s is not None
    at, places = here.now, 0
    while last not in here.started:
        here.end_one()
        places += len(here.admit())
    assert places == pytest.approx(told.place, rel=0.35), "as it was told"
    assert here.now - at == pytest.approx(told.wait_s, rel=0.5)

    seen = overview(here.services)
    assert ("heavy", 1, None) in {(user["user"], user["weight"], user["running_max"]) for user in seen["users"]}
    assert ("limited", 1, 3) in {(user["user"], user["weight"], user["running_max"]) for user in seen["users"]}
    assert seen["waiting_users"] == len(seen["users"])
    assert seen["starts_per_minute"] == pytest.approx(60 * SLOTS / 10, rel=0.3), "eight slots, jobs of ten seconds"


def test_why_names_the_limit_of_running_jobs_also_while_slots_are_free(site: Callable[..., Site]) -> None:
    here = site()
    ids = here.ask("limited", 20, tier="three at once")
    here.admit()
    told = why(here.services, here.last("limited", ids))
    assert (told.reason, told.ahead) == ("slots", 16)
    assert told.text.startswith(
        "3 of your jobs run, tier three at once allows 3; it is about the 17th of 17 to start, after 16 of your own"
    )
