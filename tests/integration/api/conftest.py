"""The HTTP API over a real store and a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.api.caller import served
from tests.integration.doors import services_on
from worker.api import events
from worker.cli.servers import Server
from worker.ports import Services


@pytest.fixture(autouse=True)
def _short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops waits for the last blocking read of its viewers."""
    monkeypatch.setattr(events, "TAIL_WAIT_S", 0.1)


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path) as services:
        yield services


@pytest.fixture
def http(services: Services) -> Iterator[httpx.Client]:
    with served(services) as (_, client):
        yield client


@pytest.fixture(scope="package")
def empty(valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Services]]:
    """An API for tests that record nothing."""
    directory = tmp_path_factory.mktemp("empty")
    with services_on(valkey.url, directory.name, directory) as services, served(services) as (_, client):
        yield client, services
