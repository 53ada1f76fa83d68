"""The outbox tells every event at least once, in order per job, whatever is stopped in between."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.coordination.fake import FakeCoordinator
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.errors import Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job, Source, SourceKind
from worker.jobs.states import State
from worker.notify.outbox import drain
from worker.notify.stream import StreamNotifier
from worker.ports import Change, Services
from worker.store.sqlite.store import SqliteStore


def queued(id: str) -> Job:
    job = Job(id=id, user="u", key=None, source=Source(SourceKind.HTTP, "https://secret:word@host/x"), content="c", version=0)
    return job.noted(1.0, "queued", event=EventType.QUEUED)


class Outbox:
    """A store, a stream, and the step between them."""

    def __init__(self, directory: Path, failpoint: str = "") -> None:
        self.redis = FakeCoordinator()
        self.store = SqliteStore(directory / "haul.db")
        self.failpoint(failpoint)
        _, self.place = self.redis.read_events(None, 1, 0.0)

    def failpoint(self, spec: str) -> None:
        notifier = StreamNotifier(self.redis)
        self.services = cast(Services, SimpleNamespace(store=self.store, notifier=notifier, failpoints=Failpoints(spec)))

    def told(self) -> list[tuple[str, str]]:
        events, _ = self.redis.read_events(self.place, 1_000, 0.0)
        return [(event["id"], event["type"]) for event in events]

    def change(self, old: Job, new: Job) -> Job:
        assert self.store.apply([Change(old, new)])[0].won
        return new


@pytest.fixture
def outbox(tmp_path: Path) -> Any:
    outbox = Outbox(tmp_path)
    yield outbox
    outbox.store.close()


def test_an_empty_outbox_tells_nothing(outbox: Outbox) -> None:
    outbox.failpoint("notify.send:raise:1")
    assert drain(outbox.services, 100) == 0
    assert outbox.told() == []


def test_events_are_told_once_and_in_order_of_each_job(outbox: Outbox) -> None:
    a, b = queued("a"), queued("b")
    outbox.store.insert([a, b])
    a = outbox.change(a, a.moved(State.PAUSED, 2.0, "paused", event=EventType.PAUSED))
    a = outbox.change(a, a.noted(3.0, "a line nobody is told"))
    assert drain(outbox.services, 100) == 2
    assert [told for told in outbox.told() if told[0].startswith("a")] == [("a:1", "job.queued"), ("a:2", "job.paused")]
    assert ("b:1", "job.queued") in outbox.told()
    assert drain(outbox.services, 100) == 0
    a = outbox.change(a, a.moved(State.CANCELLED, 4.0, "cancelled", event=EventType.CANCELLED))
    assert drain(outbox.services, 100) == 1
    assert outbox.told()[3:] == [("a:4", "job.cancelled")]


def test_what_is_told_holds_no_address(outbox: Outbox) -> None:
    outbox.store.insert([queued("a")])
    drain(outbox.services, 100)
    events, _ = outbox.redis.read_events(outbox.place, 10, 0.0)
    assert events == [{"id": "a:1", "type": "job.queued", "job": "a", "user": "u", "key": None, "at": 1.0, "text": "queued"}]


def test_no_more_jobs_are_drained_than_asked(outbox: Outbox) -> None:
    outbox.store.insert([queued(str(n)) for n in range(5)])
    assert [drain(outbox.services, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert len(outbox.told()) == 5


def test_stopped_before_the_delivery_nothing_is_told_and_all_is_found_again(outbox: Outbox) -> None:
    outbox.store.insert([queued("a")])
    outbox.failpoint("notify.send:raise:1")
    with pytest.raises(FailpointHit):
        drain(outbox.services, 100)
    assert outbox.told() == []
    assert drain(outbox.services, 100) == 1
    assert outbox.told() == [("a:1", "job.queued")]


def test_stopped_after_the_delivery_the_same_ids_are_told_again(outbox: Outbox) -> None:
    outbox.store.insert([queued("a")])
    outbox.failpoint("notify.mark:raise:1")
    with pytest.raises(FailpointHit):
        drain(outbox.services, 100)
    assert drain(outbox.services, 100) == 1
    assert outbox.told() == [("a:1", "job.queued")] * 2


def test_without_redis_nothing_is_marked_as_told(outbox: Outbox) -> None:
    outbox.store.insert([queued("a")])
    outbox.redis.down = True
    with pytest.raises(Transient):
        drain(outbox.services, 100)
    outbox.redis.down = False
    assert drain(outbox.services, 100) == 1
    assert outbox.told() == [("a:1", "job.queued")]
