"""A supervisor whose engines come, go and change their address while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import services_of
from tests.waiting import until
from worker.engines.fake import FakeEngine
from worker.ports import Engine, Services
from worker.store.sqlite.store import SqliteStore
from worker.supervision.lease import engine_lease
from worker.supervision.supervisor import Supervisor


@pytest.fixture
def engines(tmp_path: Path) -> dict[str, Engine]:
    return {"a": FakeEngine(str(tmp_path), name="a")}


@pytest.fixture
def services(tmp_path: Path, engines: dict[str, Engine]) -> Iterator[Services]:
    services = services_of(tmp_path, SqliteStore(tmp_path / "haul.db"), [])
    yield replace(services, engines=engines)
    services.close()


@pytest.fixture
def supervisor(services: Services) -> Iterator[Supervisor]:
    supervisor = Supervisor(services, lambda _: [])
    supervisor.start()
    yield supervisor
    assert supervisor.stop(), "all loops end"


def polls(engine: Engine) -> int:
    assert isinstance(engine, FakeEngine)
    return engine.calls["poll"]


def test_an_engine_that_is_added_is_looked_at_and_one_that_is_gone_is_not(
    supervisor: Supervisor, services: Services, engines: dict[str, Engine], tmp_path: Path
) -> None:
    first = engines["a"]
    until(lambda: polls(first), "the first one is looked at")
    second = engines["b"] = FakeEngine(str(tmp_path), name="b")
    until(lambda: polls(second), "the new one is looked at")
    assert set(supervisor.loops()) == {"engine-a", "engine-b", "sweeper"}
    del engines["a"]
    until(lambda: set(supervisor.loops()) == {"engine-b", "sweeper"}, "its owner has ended")
    assert services.store.acquire_lease(engine_lease("a"), "another", 1.0), "its lease is free"
    before, seen = polls(first), polls(second)
    until(lambda: polls(second) > seen, "the other one goes on")
    assert polls(first) == before


def test_an_engine_at_another_address_is_looked_at_once_the_owner_of_the_old_one_has_ended(
    supervisor: Supervisor, engines: dict[str, Engine], tmp_path: Path
) -> None:
    old = engines["a"]
    until(lambda: polls(old), "the old one is looked at")
    new = engines["a"] = FakeEngine(str(tmp_path), name="a")
    until(lambda: polls(new), "the new one is looked at")
    before, seen = polls(old), polls(new)
    until(lambda: polls(new) > seen, "it goes on")
    assert polls(old) == before
