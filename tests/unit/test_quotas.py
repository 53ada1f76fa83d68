"""What a door refuses because of a limit: with the reason for the user, the time to ask again, and nothing recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import services_of
from worker.admission.admit import admit
from worker.admission.quotas import day_of
from worker.coordination.fake import FakeCoordinator
from worker.engines.fake import FakeEngine
from worker.jobs.description import Description
from worker.jobs.errors import Conflict, Rejected, Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job, Progress, Request, Source, SourceKind
from worker.jobs.states import Cause, State
from worker.jobs.tiers import DEFAULTS, FixedTiers, Overall, Tier
from worker.pipeline import Accepted, accept, enqueue
from worker.ports import Change, Services
from worker.store.sqlite.store import SqliteStore

NOON = 1_700_049_600.0  # 12:00 UTC


class StoodClock:
    """A wall clock that stands still until it is set."""

    def __init__(self, at: float) -> None:
        self.at = at

    def time(self) -> float:
        return self.at


class Doors:
    """The doors over a real store, Redis in memory, and the limits of the tier `free` as a test wants them."""

    def __init__(self, directory: Path) -> None:
        (directory / "downloads").mkdir()
        self.clock, self.redis = StoodClock(NOON), FakeCoordinator(clock=lambda: self.clock.at)
        self.store = SqliteStore(directory / "haul.db")
        self._directory, self._engine = directory, FakeEngine(str(directory / "downloads"))
        self.limit()

    def limit(self, *, overall: Overall | None = None, settings: dict[str, Any] | None = None, **limits: Any) -> Services:
        tiers = FixedTiers({**DEFAULTS, "free": Tier("free", **limits)}, overall)
        parts = {"coordinator": self.redis, "clock": self.clock, "tiers": tiers}
        self.services = services_of(self._directory, self.store, [self._engine], settings=settings, **parts)
        return self.services

    def ask(self, n: int = 1, user: str = "ann", key: str | None = None, **request: Any) -> list[Accepted | Rejected]:
        asked = [Request(Source(SourceKind.HTTP, f"https://host/{key or number}"), user, key, **request) for number in range(n)]
        return accept(self.services, asked)

    def counted(self) -> int:
        return sum(self.store.counts().values())


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    doors = Doors(tmp_path)
    yield doors
    doors.store.close()


def refusal(answer: object) -> Rejected:
    assert isinstance(answer, Rejected), answer
    return answer


# ---- the tier ----------------------------------------------------------------------------------------------------


def test_an_unknown_tier_is_refused_with_those_there_are(doors: Doors) -> None:
    doors.limit()
    said = refusal(doors.ask(tier="gold")[0])
    assert (said.field, said.retry_after_s) == ("tier", None)
    assert "one of: free, premium, vip, admin" in said.fix
    assert doors.counted() == 0


# ---- the request bucket ------------------------------------------------------------------------------------------


def test_a_user_who_asks_too_often_is_told_when_to_ask_again_and_nothing_is_recorded(doors: Doors) -> None:
    doors.limit(requests=2.0, requests_burst=3)
    answers = doors.ask(5)
    assert [isinstance(answer, Accepted) for answer in answers] == [True] * 3 + [False] * 2
    said = refusal(answers[3])
    assert (said.field, said.retry_after_s) == ("rate", 0.5)
    assert doors.counted() == 3
    assert isinstance(doors.ask(user="bob")[0], Accepted), "another user has a bucket of his own"
    doors.clock.at += 0.5
    assert [isinstance(answer, Accepted) for answer in doors.ask(2)] == [True, False]


def test_the_machine_s_owner_asks_as_often_as_he_likes_and_costs_redis_nothing(doors: Doors) -> None:
    doors.limit(requests=1.0, requests_burst=1)
    doors.redis.down = True
    assert all(isinstance(answer, Accepted) for answer in doors.ask(600, user="owner", tier="admin"))


def test_without_redis_the_doors_stay_open_unless_they_are_to_close(doors: Doors) -> None:
    doors.limit(requests=1.0, requests_burst=1)
    doors.redis.down = True
    assert all(isinstance(answer, Accepted) for answer in doors.ask(5))
    doors.limit(requests=1.0, requests_burst=1, settings={"doors_without_redis": "closed"})
    with pytest.raises(Transient):
        doors.ask()
    assert isinstance(doors.ask(user="owner", tier="admin")[0], Accepted)


def test_messages_of_bots_spend_no_request_tokens(doors: Doors) -> None:
    services = doors.limit(requests=1.0, requests_burst=1)
    for number in range(5):
        enqueue(services, {"kind": "request", "spec": {"uri": f"https://host/{number}", "user": "ann"}})
    assert doors.store.counts() == {State.QUEUED: 5}


# ---- the queue ---------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_the_user_and_no_other(doors: Doors) -> None:
    doors.limit(queued=3)
    assert [isinstance(answer, Accepted) for answer in doors.ask(5)] == [True] * 3 + [False] * 2
    said = refusal(doors.ask()[0])
    assert (said.field, said.retry_after_s) == ("queue", 30)
    assert "ann has 3 jobs waiting" in said.detail
    assert isinstance(doors.ask(user="bob")[0], Accepted)


def test_a_request_that_is_repeated_finds_its_job_though_the_queue_is_full(doors: Doors) -> None:
    doors.limit(queued=1)
    [first] = doors.ask(key="k")
    [again] = doors.ask(key="k")
    assert isinstance(first, Accepted)
    assert again == Accepted(first.job, False)
    [other] = accept(doors.services, [Request(Source(SourceKind.HTTP, "https://host/other"), "ann", "k")])
    assert isinstance(other, Conflict)


def test_a_job_that_started_leaves_room_in_the_queue(doors: Doors) -> None:
    services = doors.limit(queued=1)
    doors.ask()
    refusal(doors.ask()[0])
    [job] = doors.store.in_state(State.QUEUED, 9)
    doors.store.apply([Change(job, job.moved(State.SUBMITTING, NOON, "admitted", reason=None))])
    assert isinstance(accept(services, [Request(Source(SourceKind.HTTP, "https://host/2"), "ann")])[0], Accepted)


def test_a_queue_of_everybody_s_is_full_for_everybody(doors: Doors) -> None:
    doors.limit(overall=Overall(queued=2))
    doors.ask(2)
    assert refusal(doors.ask(user="bob")[0]).field == "queue"


def test_a_bot_s_request_to_a_full_queue_is_recorded_as_refused_with_its_event(doors: Doors) -> None:
    services = doors.limit(queued=1)
    for number in (1, 1, 2):
        enqueue(services, {"kind": "request", "spec": {"uri": f"https://host/{number}", "user": "ann", "key": f"{number}"}})
    [job] = doors.store.in_state(State.FAILED, 9)
    assert (job.cause, job.key) == (Cause.REFUSED, "2")
    assert job.message is not None
    assert "ann has 1 jobs waiting" in job.message
    assert [(event.type, event.data["field"]) for event in job.unsent] == [(EventType.REFUSED, "queue")]
    assert doors.store.counts() == {State.QUEUED: 1, State.FAILED: 1}, "what was sent twice is one job"


def test_refusals_are_counted_by_the_rule_and_never_by_what_a_user_wrote(doors: Doors) -> None:
    services = doors.limit(queued=1)
    doors.ask(2)
    enqueue(services, {"kind": "request", "spec": {"uri": "https://host/1", "user": "bob", "a secret name": 1}})
    counted = {rule: services.metrics.refusals.labels(rule)._value.get() for rule in ("queue", "request", "conflict")}
    assert counted == {"queue": 1, "request": 1, "conflict": 0}


# ---- bytes -------------------------------------------------------------------------------------------------------


def downloading(doors: Doors, size: int) -> Job:
    """A job of ann's whose engine says how large it is."""
    [answer] = doors.ask()
    assert isinstance(answer, Accepted)
    lease = doors.store.acquire_lease("x", "x", 60)
    assert lease is not None
    doors.store.record_progress({answer.job.id: Progress(0, size)}, lease)
    return answer.job


def test_spent_bytes_refuse_until_midnight_and_losing_redis_resets_nothing(doors: Doors) -> None:
    doors.limit(bytes_a_day=1_000)
    downloading(doors, 999)
    downloading(doors, 1)
    doors.redis.flush()
    said = refusal(doors.ask()[0])
    assert (said.field, said.retry_after_s) == ("bytes", 12 * 3_600)
    assert isinstance(doors.ask(user="bob")[0], Accepted)
    doors.clock.at += 12 * 3_600
    assert isinstance(doors.ask()[0], Accepted)


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [("UTC", NOON, 24), ("Europe/Berlin", 1_711_843_200.0, 23), ("Europe/Berlin", 1_729_987_200.0, 25), ("Asia/Kathmandu", NOON, 24)],
)
def test_a_day_is_one_of_the_time_zone(tmp_path: Path, zone: str, at: float, hours: int) -> None:
    store = SqliteStore(tmp_path / "haul.db")
    begin, end = day_of(services_of(tmp_path, store, [], settings={"timezone": zone}, clock=StoodClock(at)))
    assert begin <= at < end
    assert end - begin == hours * 3_600
    store.close()


def test_a_torrent_that_is_too_large_is_refused_for_good(doors: Doors) -> None:
    doors.limit(largest_file=100)
    said = refusal(doors.ask(description=Description("0" * 64, "n", 101, 1, v1="1" * 40))[0])
    assert (said.field, said.retry_after_s) == ("size", None)
    assert isinstance(doors.ask(description=Description("0" * 64, "n", 100, 1, v1="1" * 40))[0], Accepted)
    assert isinstance(doors.ask(description=Description("0" * 64, "n", 101, 2, v1="1" * 40), select=(1,))[0], Accepted)


def test_a_job_whose_size_shows_later_is_refused_before_it_starts(doors: Doors) -> None:
    services = doors.limit(largest_file=100)
    [answer] = doors.ask()
    assert isinstance(answer, Accepted)
    described = answer.job.noted(NOON, description=Description("0" * 64, "n", 101, 1, v1="1" * 40))
    doors.store.apply([Change(answer.job, described)])
    admit(services, 100)
    job = doors.store.get([answer.job.id])[answer.job.id]
    assert (job.state, job.cause, job.reason) == (State.FAILED, Cause.REFUSED, None)
    assert job.unsent[-1].type is EventType.REFUSED
    assert doors.redis.waiting_size() == 0
    assert replace(job, events=()).message == "size: 101 bytes are more than the 100 of the tier free (choose a smaller one)"
