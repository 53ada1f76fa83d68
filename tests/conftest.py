"""Fixtures every suite shares: real servers, and a key prefix of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.mongodb import own_database, running
from tests.origin import Origin
from tests.servers import own_redis
from worker.cli.servers import Server

# How long an example takes says more of the machine than of the code; all of a test has pytest's time limit.
settings.register_profile("haul", deadline=None)
settings.load_profile("haul")


@pytest.fixture(scope="session", params=["valkey", "redis"])
def any_redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey, then a Redis, for the whole run; tests take a key prefix of their own."""
    with own_redis(tmp_path_factory.mktemp(request.param), request.param) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One Valkey (or Redis) for the whole run; tests take a key prefix of their own."""
    with own_redis(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey of this test alone, which it may stop."""
    with own_redis(tmp_path_factory.mktemp("own-valkey")) as server:
        yield server


@pytest.fixture
def key_prefix() -> str:
    """Keys of this test alone."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one MongoDB for the whole run, `mongodb://…/`; `mongo_url` is what tests take."""
    with running(tmp_path_factory.mktemp("mongodb")) as url:
        yield url


@pytest.fixture
def mongo_url(mongodb: str) -> Iterator[str]:
    """The address of a database of this test alone."""
    with own_database(mongodb) as url:
        yield url


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A web server of this module's tests."""
    with Origin() as origin:
        yield origin
