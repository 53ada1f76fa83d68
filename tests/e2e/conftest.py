"""The stacks of the end-to-end tests; the log of the workers is shown with a test that fails."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests import mongodb
from tests.e2e.engines import newest_aria2c_program
from tests.e2e.stack import MONGODB, SERVICES, CeleryWorker, Stack


@pytest.fixture(scope="session", autouse=True)
def _mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The MongoDB of the stacks of this process, where they need one and the environment names none."""
    if not SERVICES or os.environ.get(MONGODB):
        yield
        return
    with mongodb.running(tmp_path_factory.mktemp("mongodb")) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv(MONGODB, url)
        yield


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add the workers' log to the report of a failure."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Stack):
                report.sections.append((f"workers of {name}", value.tail()))
    return report
