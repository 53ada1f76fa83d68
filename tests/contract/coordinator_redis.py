"""The server itself."""

from __future__ import annotations

import re

from tests.contract.coordinator_suite import CoordinatorFixtures
from worker.ports import Coordinator


class RedisSuite(CoordinatorFixtures):
    def test_ping_returns(self, redis: Coordinator) -> None:
        redis.ping()

    def test_the_server_says_which_it_is_and_who_is_connected(self, redis: Coordinator) -> None:
        facts = redis.facts()
        assert re.fullmatch(r"(Valkey|Redis|memory) \d+.*", facts.version)
        assert facts.connections >= 1
        assert facts.used_bytes > 0
