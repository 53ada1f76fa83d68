"""The fake engine keeps the promises the real ones keep, so that what is tested with it is tested."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.contract.engine_suite import SIZE, EngineSuite, HttpSuite, http_order, submitted
from tests.contract.torrent_suite import TorrentSuite, torrent_order
from tests.origin import content
from tests.torrents import FILES, Pack, Version, pack
from worker.engines.fake import FakeEngine
from worker.jobs.model import Source
from worker.jobs.states import Cause
from worker.jobs.torrents import Torrent, TorrentFile
from worker.ports import Engine, Fault, ItemStatus, Order

GONE = Fault(Cause.NOT_FOUND, False, "the server says there is no such file")


BAD = "magnet:?xt=urn:btih:zz"


def _fetch(source: Source) -> bytes:
    query = parse_qs(urlsplit(source.uri).query)
    return content(int(query.get("size", ["1000"])[0]), 7)


class FakeHarness:
    """The fake, with addresses."""

    batch = 230

    def __init__(self, directory: Path) -> None:
        self.packs: dict[str | None, Pack] = {}
        self.fake = FakeEngine(str(directory), slots=300, fetch=_fetch, fetch_file=self._content)
        self.fake.refusals[BAD] = Fault(Cause.SOURCE, False, "cannot be read")
        self.engine: Engine = self.fake

    def url(self, path: str) -> str:
        return path if "://" in path or path.startswith("magnet:") else f"http://origin{path}"

    def order(self, transfer: str, attempt: int = 1, *, size: int = SIZE, rate: int = 0, name: str | None = None) -> Order:
        return http_order(self, transfer, attempt, size=size, rate=rate, name=name)

    def bad_order(self, transfer: str) -> Order:
        return http_order(self, transfer, path=BAD)

    def fetched(self, order: Order) -> int:
        return self.fake.fetched[order.source.uri]

    def step(self) -> None:
        self.fake.advance(300_000)

    def restart(self, *, keep: bool) -> None:
        self.fake.restart(keep=keep)

    def silent(self) -> AbstractContextManager[None]:
        return self.fake.silent()

    def break_source(self, order: Order) -> None:
        self.fake.fail(self.engine.handle(order.transfer, order.attempt), GONE)

    def _content(self, torrent: Torrent, file: TorrentFile) -> bytes:
        return self.packs[torrent.v1 or torrent.v2].laid["/".join(file.path)]


class FakeTorrents(FakeHarness):
    """The fake, with torrents."""

    hybrids = True

    def order(self, transfer: str, attempt: int = 1, *, size: int = SIZE, rate: int = 0, name: str | None = None) -> Order:
        made = self.pack({"": content(size, 7)}, name=name or f"{transfer}.bin", single=True)
        return torrent_order(self.engine, transfer, made.document, attempt)

    def bad_order(self, transfer: str) -> Order:
        return torrent_order(self.engine, transfer, b"<html>please log in</html>")

    def pack(
        self, files: Mapping[str, bytes] = FILES, *, name: str = "pack", single: bool = False, version: Version = "v1", rate: int = 0
    ) -> Pack:
        made = pack(files, name=name, single=single, version=version)
        self.packs[made.v1 or made.v2] = made
        return made


class TestFakeWithAddresses(EngineSuite, HttpSuite):
    """Every promise, and what the fake adds."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> FakeHarness:
        return FakeHarness(tmp_path)

    def test_more_than_the_slots_wait_in_the_engines_own_queue(self, tmp_path: Path) -> None:
        harness = FakeHarness(tmp_path)
        harness.fake.slots = 1
        first, second = (submitted(harness, http_order(harness, f"q{n}", size=1000)) for n in range(2))
        assert [item.status for item in harness.fake.poll().items.values()] == [ItemStatus.RUNNING, ItemStatus.WAITING]
        harness.fake.complete(first)
        assert harness.fake.poll().items[second].status is ItemStatus.RUNNING


class TestFakeWithTorrents(EngineSuite, TorrentSuite):
    """Every promise, and those about torrents."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> FakeTorrents:
        return FakeTorrents(tmp_path)
