"""Messages of the intake take effect in their order, whoever reads them and whatever fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.doors import DEADLINE_S, services_on
from worker.admission import doors
from worker.cli.servers import Server
from worker.coordination.bounds import Bounds
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Transient
from worker.jobs.model import Job, job_id
from worker.jobs.states import State
from worker.ports import Inserted, Services

RECLAIM_S = 0.2
ID = job_id("ann", "1")
REQUEST = {"kind": "request", "id": ID, "spec": {"uri": "https://example.org/file", "user": "ann", "key": "1"}}
CANCEL = {"kind": "control", "job": ID, "action": "cancel"}


class StoreWith:
    """A store whose `insert` runs something first."""

    def __init__(self, store: Any, before_insert: Callable[[], None]) -> None:
        self._store = store
        self._before = before_insert

    def insert(self, jobs: Sequence[Job]) -> list[Inserted]:
        self._before()
        inserted: list[Inserted] = self._store.insert(jobs)
        return inserted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(doors, "INTAKE_CLAIM_S", 1.5 * RECLAIM_S)
    with services_on(valkey.url, key_prefix, tmp_path) as built:
        hasty = RedisCoordinator(valkey.url, prefix=key_prefix, bounds=Bounds(reclaim_s=RECLAIM_S))
        yield replace(built, coordinator=hasty)
        hasty.close()


def test_nothing_newer_is_dealt_with_while_an_older_message_is_being_recorded(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "INTAKE_CLAIM_S", DEADLINE_S)
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go_on.wait(DEADLINE_S)

    slow = replace(services, store=StoreWith(services.store, wait))
    services.coordinator.offer([REQUEST])
    first = threading.Thread(target=doors.intake, args=(slow, 100))
    first.start()
    assert began.wait(DEADLINE_S)
    services.coordinator.offer([CANCEL])
    second = threading.Thread(target=doors.intake, args=(services, 100))
    second.start()
    second.join(0.3)  # were it to take the newer message, it would have done so by now
    go_on.set()
    first.join(DEADLINE_S)
    second.join(DEADLINE_S)

    assert services.store.get([ID])[ID].state is State.CANCELLED
    assert services.coordinator.intake_size() == 0


def test_what_a_failed_intake_had_read_goes_before_what_came_later(services: Services) -> None:
    def fail() -> None:
        raise Transient("store", "does not answer")

    services.coordinator.offer([REQUEST])
    with pytest.raises(Transient):
        doors.intake(replace(services, store=StoreWith(services.store, fail)), 100)
    services.coordinator.offer([CANCEL])

    deadline = time.monotonic() + DEADLINE_S
    while services.coordinator.intake_size() and time.monotonic() < deadline:
        doors.intake(services, 100)

    assert services.store.get([ID])[ID].state is State.CANCELLED


def test_a_message_that_we_fail_over_is_parked_and_the_others_are_recorded(services: Services) -> None:
    unreadable = {"kind": "request", "spec": {"uri": "https://example.org/file", "user": "\ud800"}}
    services.coordinator.offer([unreadable, REQUEST, unreadable])

    assert doors.intake(services, 100) == 3

    assert services.store.get([ID])[ID].state is State.QUEUED
    assert services.coordinator.intake_size() == 0
