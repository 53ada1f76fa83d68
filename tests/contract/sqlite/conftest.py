"""A database file of SQLite, and what opens it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.contract.store_suite import Opener
from worker.store import open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "haul.db"


@pytest.fixture
def opener(path: Path) -> Opener:
    return partial(open_store, f"sqlite:///{path}")
