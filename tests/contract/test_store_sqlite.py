"""`JobStore` on SQLite keeps what every store promises."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.contract.store_contract import StoreSuite
from tests.contract.store_races import StoreRaces
from tests.contract.store_suite import Opener
from worker.store import open_store


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    return partial(open_store, f"sqlite:///{tmp_path}/data/haul.db")


class TestContract(StoreSuite):
    pass


class TestRaces(StoreRaces):
    pass
