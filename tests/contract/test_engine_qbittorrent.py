"""The adapter and a real qBittorrent keep the promises of an engine."""

from __future__ import annotations

import pytest

from tests.contract.engine_suite import EngineSuite
from tests.contract.qbittorrent import QbittorrentHarness
from tests.contract.swarm_suite import SwarmSuite
from tests.contract.torrent_suite import TorrentSuite


class TestQbittorrentEngine(EngineSuite, TorrentSuite, SwarmSuite):
    """Every promise, and those about torrents."""

    @pytest.fixture
    def harness(self, qbittorrent: QbittorrentHarness) -> QbittorrentHarness:
        return qbittorrent
