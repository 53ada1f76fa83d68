"""Asking sources for their size: a real store, a real Valkey, real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.doors import services_on
from tests.origin import Origin
from worker.admission import ask as asking
from worker.cli.servers import Server
from worker.ports import Services


@pytest.fixture(scope="package")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32", probe="always") as services:
        yield services


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "DEADLINE_S", 0.5)
