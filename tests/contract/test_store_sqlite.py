"""`JobStore` on SQLite keeps what every store promises."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.contract.breaker_suite import BreakerSuite
from tests.contract.drains_suite import DrainsSuite
from tests.contract.limits_suite import LimitsSuite
from tests.contract.store_contract import StoreSuite
from tests.contract.store_races import StoreRaces
from tests.contract.store_space import SpaceSuite
from tests.contract.store_suite import Opener
from tests.contract.upkeep_suite import UpkeepSuite
from worker.store import open_store


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    return partial(open_store, f"sqlite:///{tmp_path}/data/haul.db")


class TestContract(StoreSuite):
    pass


class TestLimits(LimitsSuite):
    pass


class TestBreakers(BreakerSuite):
    pass


class TestDrains(DrainsSuite):
    pass


class TestUpkeep(UpkeepSuite):
    """What the works by the clock ask of it."""


class TestSpace(SpaceSuite):
    """What is kept for jobs, and who waits for some."""


class TestRaces(StoreRaces):
    pass
