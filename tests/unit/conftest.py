"""Unit tests open no socket: what needs a server belongs to another suite. Most that need more than values need a `Machine`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_socket import disable_socket, enable_socket

from tests.machine import Machine


@pytest.fixture(autouse=True)
def _no_sockets() -> Iterator[None]:
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One engine in memory, one real store, and the steps around them."""
    machine = Machine(tmp_path)
    yield machine
    machine.services.close()
