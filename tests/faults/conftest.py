"""Each fault gets a stack of its own, for it breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.reports import mongodb_of_stacks, pytest_runtest_makereport
from tests.e2e.stack import Stack, eventually
from tests.faults.load import processes_of

__all__ = ["mongodb_of_stacks", "pytest_runtest_makereport"]


@pytest.fixture
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No process of the test runs on when it is over."""
    yield
    eventually(lambda: not processes_of(tmp_path), "all processes of the test are gone", 10, lambda: processes_of(tmp_path))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of this test alone, with aria2 and no worker yet."""
    with Stack(tmp_path / "stack") as running:
        yield running


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """The stack's Redis, past every proxy."""
    with closing(Redis.from_url(stack.redis.url, decode_responses=True)) as opened:
        yield opened
