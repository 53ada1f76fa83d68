"""The MongoDB store, and the same seen through a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from tests.contract.store_suite import Opener
from tests.mongo_proxy import MongoProxy, through
from tests.mongodb import with_options
from worker.ports import JobStore
from worker.store import open_store
from worker.store.mongo.store import MongoStore


@pytest.fixture
def opener(mongo_url: str) -> Opener:
    return partial(open_store, mongo_url)


@pytest.fixture
def store(opener: Opener) -> Iterator[MongoStore]:
    with closing(opener()) as store:
        assert isinstance(store, MongoStore)
        yield store


@pytest.fixture
def far_url(mongo_url: str, proxy: MongoProxy) -> str:
    """The database of the test, through the proxy, without the driver's own repetitions, which only a replica set would have."""
    return through(mongo_url, proxy, "retryWrites=false&retryReads=false")


@pytest.fixture
def far(far_url: str) -> Iterator[JobStore]:
    """The store, seen through the proxy."""
    with closing(open_store(far_url)) as store:
        yield store


@pytest.fixture
def hasty(far_url: str) -> Iterator[JobStore]:
    """As `far`, with a short time-out."""
    with closing(open_store(with_options(far_url, "timeoutMS=1000"))) as store:
        yield store
