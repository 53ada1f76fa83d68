"""The fake engine keeps the promises the real ones keep, so that what is tested with it is tested."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.contract.engine_suite import EngineSuite, order_for, submitted
from tests.origin import content
from worker.engines.fake import FakeEngine
from worker.jobs.model import Source
from worker.jobs.states import Cause
from worker.ports import Engine, Fault, ItemStatus, Order

GONE = Fault(Cause.NOT_FOUND, False, "the server says there is no such file")


def _fetch(source: Source) -> bytes:
    query = parse_qs(urlsplit(source.uri).query)
    return content(int(query.get("size", ["1000"])[0]), 7)


class FakeHarness:
    def __init__(self, directory: Path) -> None:
        self.fake = FakeEngine(str(directory), slots=300, fetch=_fetch)
        self.fake.refusals[self.bad_uri()] = Fault(Cause.SOURCE, False, "cannot be read")
        self.engine: Engine = self.fake

    def url(self, path: str) -> str:
        return path if "://" in path or path.startswith("magnet:") else f"http://origin{path}"

    def fetched(self, order: Order) -> int:
        return self.fake.fetched[order.source.uri]

    def step(self) -> None:
        self.fake.advance(300_000)

    def restart(self, *, keep: bool) -> None:
        self.fake.restart(keep=keep)

    def silent(self) -> AbstractContextManager[None]:
        return self.fake.silent()

    def bad_uri(self) -> str:
        return "magnet:?xt=urn:btih:zz"

    def break_source(self, order: Order) -> None:
        self.fake.fail(self.engine.handle(order.transfer, order.attempt), GONE)


@pytest.fixture
def harness(tmp_path: Path) -> FakeHarness:
    return FakeHarness(tmp_path)


class TestFakeEngine(EngineSuite):
    """Every promise, and what the fake adds."""

    def test_more_than_the_slots_wait_in_the_engines_own_queue(self, tmp_path: Path) -> None:
        harness = FakeHarness(tmp_path)
        harness.fake.slots = 1
        first, second = (submitted(harness, order_for(harness, f"q{n}", size=1000)) for n in range(2))
        assert [item.status for item in harness.fake.poll().items.values()] == [ItemStatus.RUNNING, ItemStatus.WAITING]
        harness.fake.complete(first)
        assert harness.fake.poll().items[second].status is ItemStatus.RUNNING
