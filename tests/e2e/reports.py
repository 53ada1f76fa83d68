"""What every test on a stack has: the MongoDB the stack may rest on, and the workers' log beside a failure."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests import mongodb
from tests.e2e.stack import MONGODB, SERVICES, Stack


@pytest.fixture(scope="session", autouse=True)
def mongodb_of_stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The MongoDB of the stacks of this process, where they need one and the environment names none."""
    if not SERVICES or os.environ.get(MONGODB):
        yield
        return
    with mongodb.running(tmp_path_factory.mktemp("mongodb")) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv(MONGODB, url)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add the workers' log to the report of a failure."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Stack):
                report.sections.append((f"workers of {name}", value.tail()))
    return report
