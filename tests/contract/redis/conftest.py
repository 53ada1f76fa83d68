"""A Redis that a test may wipe, freeze and kill."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import redis as client

from tests.contract.coordinator_suite import Make
from tests.contract.redis.coordinators import maker
from tests.servers import own_redis
from worker.cli.servers import Server


@pytest.fixture(scope="package")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of these tests' own, to be wiped, frozen and killed."""
    with own_redis(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def own(own_server: Server) -> Iterator[Server]:
    """The server, running and empty."""
    if not own_server.alive:
        own_server.restart()
        own_server.await_ready()
    admin = client.Redis.from_url(own_server.url)
    admin.flushall()
    yield own_server
    if own_server.alive:
        own_server.process.send_signal(signal.SIGCONT)
    admin.close()


@pytest.fixture
def make_own(own: Server) -> Iterator[Make]:
    with maker(own.url, "own") as make:
        yield make
