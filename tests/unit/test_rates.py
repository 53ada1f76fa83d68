"""Start tokens at admission: who starts, who waits with `rate`, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.machine import services_of
from worker.admission.admit import admit
from worker.admission.rates import LINE_S
from worker.coordination.fake import FakeCoordinator
from worker.engines.fake import FakeEngine
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.states import Reason, State
from worker.jobs.tiers import DEFAULTS, FixedTiers, Overall, Tier
from worker.limits import ADMIT_LEASE_S
from worker.pipeline import accept, why
from worker.ports import EngineSnapshot, Heads
from worker.store.sqlite.store import SqliteStore


class Admission:
    """Admission over a real store, with Redis in memory and one clock moved by hand for both."""

    def __init__(self, directory: Path) -> None:
        (directory / "downloads").mkdir()
        self.now = 1_000.0
        self.redis = FakeCoordinator(clock=lambda: self.now)
        self.store = SqliteStore(directory / "haul.db", lambda: self.now)
        self._directory, self._engine = directory, FakeEngine(str(directory / "downloads"))
        self._engine.slots = 10_000

    def limit(self, *, slots: int = 10_000, overall: Overall | None = None, **limits: Any) -> None:
        self._engine.slots = slots
        tiers = FixedTiers({**DEFAULTS, "free": Tier("free", requests=None, **limits)}, overall)
        self.services = services_of(self._directory, self.store, [self._engine], coordinator=self.redis, tiers=tiers)

    def ask(self, n: int, user: str = "u", tier: str = "free") -> list[str]:
        asked = [Request(Source(SourceKind.HTTP, f"https://host/{number}"), user, tier=tier) for number in range(n)]
        return [answer.job.id for answer in accept(self.services, asked) if not isinstance(answer, Exception)]

    def run(self) -> int:
        """Look until nothing is left to do, as the step does; how often it looked."""
        e = self._engine
        kinds = tuple(map(str, e.features.kinds))
        self.redis.put_snapshot(EngineSnapshot(e.name, e.slots, kinds, e.directory, None, 0, 0, 0, self.now, "o"))
        looks = 0
        while admit(self.services, 100):
            looks += 1
        return looks

    def started(self) -> int:
        return self.store.counts().get(State.SUBMITTING, 0)


@pytest.fixture
def admission(tmp_path: Path) -> Iterator[Admission]:
    admission = Admission(tmp_path)
    yield admission
    admission.store.close()


def test_no_more_start_than_the_bucket_of_their_tier_allows(admission: Admission) -> None:
    admission.limit(rate=10.0, burst=20.0)
    admission.ask(60)
    admission.run()
    assert admission.started() == 20
    for second in range(1, 5):
        for _ in range(20):
            admission.now += 0.05
            admission.run()
        assert admission.started() == pytest.approx(20 + 10 * second, abs=1)
    admission.now += LINE_S
    admission.run()
    assert admission.started() == 60


def test_one_without_a_token_waits_with_rate_and_its_user_is_told_for_how_long(admission: Admission) -> None:
    admission.limit(rate=0.1, burst=1.0)
    asked = admission.ask(2)
    admission.run()
    jobs = sorted(admission.store.get(asked).values(), key=lambda job: job.state is State.QUEUED)
    assert [(job.state, job.reason) for job in jobs] == [(State.SUBMITTING, None), (State.QUEUED, Reason.RATE)]
    second = jobs[1].id
    said = why(admission.services, second)
    assert (said.reason, said.retry_in_s) == ("rate", 10.0)
    assert "as many jobs have started as may" in said.text
    admission.now += 10.1
    admission.run()
    assert admission.store.get([second])[second].state is State.SUBMITTING


def test_a_job_that_finds_no_slot_spends_no_token(admission: Admission) -> None:
    admission.limit(slots=3, rate=1.0, burst=5.0)
    admission.ask(8)
    admission.run()
    assert admission.started() == 3
    [bucket] = admission.services.tiers.fresh().starts("free", "u")
    assert admission.redis.tokens([bucket]) == [2.0]


def test_those_of_another_tier_start_beside_one_that_has_no_tokens(admission: Admission) -> None:
    admission.limit(rate=0.1, burst=2.0)
    for user in range(120):
        admission.ask(1, user=f"free {user}")
    admission.ask(5, user="paid", tier="vip")
    admission.run()
    assert admission.started() == 2 + 5


def test_the_machine_s_owner_starts_without_tokens(admission: Admission) -> None:
    admission.limit(overall=Overall())
    admission.ask(700, user="owner", tier="admin")
    admission.run()
    assert admission.started() == 700


def test_a_bucket_of_everybody_s_holds_all_tiers(admission: Admission) -> None:
    admission.limit(overall=Overall(rate=1.0, burst=4.0))
    admission.ask(3, user="a")
    admission.ask(3, user="b", tier="admin")
    admission.run()
    assert admission.started() == 4


def test_as_many_run_at_once_as_may_on_all_engines_together(admission: Admission) -> None:
    admission.limit(overall=Overall(running=4))
    ids = admission.ask(6)
    admission.run()
    assert admission.started() == 4
    waiting = [id for id in ids if admission.store.get([id])[id].state is State.QUEUED]
    assert why(admission.services, waiting[0]).text.startswith("4 jobs run, as many as may at once")


def test_thousands_that_wait_for_tokens_are_not_all_looked_at_all_the_time(admission: Admission) -> None:
    admission.limit(rate=100.0, burst=500.0)
    for _ in range(6):
        admission.ask(500)
    looks = admission.run()
    assert admission.started() == 500
    assert looks <= 3_000 / 100 + 1
    begun = time.process_time()
    looks = 0
    for _ in range(20):
        admission.now += 0.5
        looks += admission.run()
    assert admission.started() == pytest.approx(500 + 100 * 10, abs=2)
    assert looks <= 20 * 2, "about a look each half second, at those whose turn it is"
    assert time.process_time() - begun < 20


def test_without_redis_nothing_new_starts(admission: Admission) -> None:
    admission.limit(rate=10.0)
    admission.ask(1)
    admission.redis.down = True
    with pytest.raises(Transient):
        admit(admission.services, 100)
    assert admission.started() == 0


@pytest.mark.parametrize(("rate", "burst"), [(4.0, 2.0), (100.0, 50.0), (0.5, 1.0)])
def test_admission_that_looks_only_when_it_asked_to_starts_what_is_due(admission: Admission, rate: float, burst: float) -> None:
    admission.limit(rate=rate, burst=burst)
    count = int(burst + 20 * rate)
    admission.ask(count)
    begun = admission.now
    admission.run()
    while admission.started() < count:
        _, later = admission.redis.reminders(admission.now)
        assert later is not None, "nobody would look again"
        admission.now = max(later, admission.now + 0.1)
        assert admission.redis.reminders(admission.now)[0] == ["admit"]
        admission.run()
    due_s = (count - burst) / rate
    assert due_s - 0.01 <= admission.now - begun <= due_s * 1.1 + 1 / rate


def test_a_look_that_took_too_long_admits_nothing_when_another_admission_came_in_between(
    admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission.limit()
    admission.ask(3)
    heads, tokens = admission.redis.waiting_heads, []

    def slowly(*args: Any, **kwargs: Any) -> Heads:
        admission.now += ADMIT_LEASE_S + 1
        lease = admission.store.acquire_lease("admit", "another", ADMIT_LEASE_S)
        assert lease is not None, "a dead admission is waited for no longer than its lease"
        tokens.append(lease.token)
        return heads(*args, **kwargs)

    monkeypatch.setattr(admission.redis, "waiting_heads", slowly)
    with pytest.raises(LeaseLost):
        admission.run()
    assert (admission.started(), len(tokens)) == (0, 1)


def test_a_look_that_took_too_long_counts_when_nobody_else_admitted(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    admission.limit()
    admission.ask(3)
    heads = admission.redis.waiting_heads
    monkeypatch.setattr("worker.admission.admit.time", SimpleNamespace(monotonic=lambda: admission.now))

    def slowly(*args: Any, **kwargs: Any) -> Heads:
        admission.now += ADMIT_LEASE_S + 1
        return heads(*args, **kwargs)

    monkeypatch.setattr(admission.redis, "waiting_heads", slowly)
    admission.run()
    assert admission.started() == 3
