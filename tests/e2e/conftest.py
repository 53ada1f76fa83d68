"""The stacks of the end-to-end tests; the log of the workers is shown with a test that fails."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.e2e.stack import CeleryWorker, Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of this process that neither fill it nor kill it; they take a user of their own."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        running.work(CeleryWorker)
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
