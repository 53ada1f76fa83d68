"""The store itself: its declarations, its server, its end."""

from __future__ import annotations

import re

from tests.contract.store_suite import StoreFixtures
from worker.ports import JobStore


class ServerSuite(StoreFixtures):
    def test_a_store_that_was_just_made_is_as_declared(self, store: JobStore) -> None:
        assert store.drift() == ()

    def test_a_store_names_its_server_and_version(self, store: JobStore) -> None:
        assert re.fullmatch(r"(SQLite|MongoDB) \d+\.\d+.*", store.version())

    def test_a_store_that_is_there_answers(self, store: JobStore) -> None:
        store.ping()

    def test_closing_twice_is_closing(self, store: JobStore) -> None:
        store.close()
        store.close()
