"""The bot's client over a real Valkey, the real intake step, and the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.doors import services_on
from worker.api.server import serve
from worker.cli.servers import Server
from worker.client import Client
from worker.ports import Services


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path) as services:
        yield services


@pytest.fixture
def bot(valkey: Server, key_prefix: str) -> Iterator[Client]:
    with Client(valkey.url, prefix=key_prefix) as client:
        yield client


@pytest.fixture
def api_bot(valkey: Server, key_prefix: str, services: Services) -> Iterator[Client]:
    """A client that knows the API."""
    api = serve(services, host="127.0.0.1", port=0)
    api.start()
    with Client(valkey.url, api.url, prefix=key_prefix) as client:
        yield client
    api.stop()
