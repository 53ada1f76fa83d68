"""`JobStore` on MongoDB keeps what every store promises, and begins no transaction."""

from __future__ import annotations

from functools import partial
from typing import Any

import pymongo.errors
import pytest
from pymongo import MongoClient

from tests.contract.store_contract import StoreSuite
from tests.contract.store_races import StoreRaces
from tests.contract.store_suite import Opener
from tests.contract.transactions import TRANSACTIONS
from tests.mongodb import with_options
from worker.store import open_store


@pytest.fixture
def opener(mongo_url: str) -> Opener:
    # The driver lends connections in no order: of more threads than connections that never rest, one may wait for ever.
    return partial(open_store, with_options(mongo_url, "maxPoolSize=30"))


class TestContract(StoreSuite):
    pass


class TestRaces(StoreRaces):
    jobs, ttl_s = 20, 0.2  # SecantusDB takes milliseconds for an update


def test_a_transaction_would_be_noticed(mongo_url: str) -> None:
    with MongoClient[Any](mongo_url) as client, client.start_session() as session:
        session.start_transaction()
        with pytest.raises(pymongo.errors.PyMongoError, match="no such command"):
            client.haul.command("none", session=session)
    assert TRANSACTIONS.seen
    TRANSACTIONS.seen.clear()
