"""Each fault gets a stack of its own, for it breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.reports import mongodb_of_stacks, pytest_runtest_makereport
from tests.e2e.stack import Stack

__all__ = ["mongodb_of_stacks", "pytest_runtest_makereport"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of this test alone, with aria2 and no worker yet."""
    with Stack(tmp_path / "stack") as running:
        yield running
