"""The stacks of the end-to-end tests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.e2e.engines import newest_aria2c_program
from tests.e2e.processes import CeleryWorker
from tests.e2e.reports import mongodb_of_stacks, pytest_runtest_makereport
from tests.e2e.stack import Stack

__all__ = ["mongodb_of_stacks", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of this process that neither fill it nor kill it; they take a user of their own."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        running.work(CeleryWorker)
        yield running


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack with both engines for the torrents of this process; tests take torrents and a user of their own."""
    with Stack(tmp_path_factory.mktemp("both"), engines=("aria2", "qbittorrent"), aria2c=newest_aria2c_program()) as running:
        running.work()
        yield running


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user of this test alone."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name)[:100].strip("-")
