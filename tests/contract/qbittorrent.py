"""A real qbittorrent-nox for one test: it can be killed, stopped, and started again under its address."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.contract.peer import Peer
from tests.contract.program import EngineProgram
from tests.contract.sources import TorrentSources
from tests.origin import Origin
from tests.torrents import FILES, Pack, Version
from worker.cli.servers import Server, free_port
from worker.cli.servers.qbittorrent import start_qbittorrent
from worker.engines.qbittorrent.engine import QbittorrentEngine

SLOTS = 300
#: States are shown so late.
REFRESH_MS = 100
#: libtorrent shortens longer names, and asks web seeds for the short ones, which they do not have.
NAME_BYTES_MAX = 240


class QbittorrentHarness(TorrentSources, EngineProgram):
    """One qbittorrent-nox of its own; the other clients of a swarm are an aria2c."""

    batch = 120

    def __init__(self, program: Path, client: Path, base: Path, origin: Origin) -> None:
        self.origin, self.client, self.base = origin, client, base
        self.downloads = base / "downloads"
        self.downloads.mkdir()
        self._program = program
        self.profile = base / "profile"
        self.profile.mkdir()
        self.listen_port = free_port()
        self._peers: list[Peer] = []
        self._server = self._started()
        parts = urlsplit(self._server.url)
        self.port, self.user, self.secret = int(parts.port or 0), str(parts.username), str(parts.password)
        self.engine = self.another()
        self.call("app_set_preferences", prefs={"refresh_interval": REFRESH_MS})

    def another(self, secret: str | None = None, port: int | None = None) -> QbittorrentEngine:
        """An adapter, as another process has one."""
        url = f"http://127.0.0.1:{port or self.port}"
        return QbittorrentEngine("qbittorrent", url, self.user, secret or self.secret, str(self.downloads), SLOTS)

    def _started(self, *, port: int | None = None, secret: str | None = None) -> Server:
        places = (self._program, self.profile, self.downloads)
        port = port or free_port(self.listen_port)
        return start_qbittorrent(*places, slots=SLOTS, port=port, secret=secret, listen_port=self.listen_port, discovery=False)

    def call(self, method: str, **arguments: Any) -> Any:
        """qBittorrent itself, past the adapter."""
        return self.engine._session.call(self.engine._deadline(), method, **arguments)

    def row(self, handle: str) -> dict[str, Any]:
        """What `torrents/info` says of one transfer."""
        (row,) = self.call("torrents_info", tag=handle)
        return dict(row)

    @property
    def pid(self) -> int:
        return self._server.process.pid

    def kill(self) -> None:
        self._server.process.kill()
        self._server.process.wait()

    def stop(self) -> None:
        """End it as it wishes, with all written down."""
        self._server.stop()

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self.engine.close()
        self.kill()

    def pack(
        self, files: Mapping[str, bytes] = FILES, *, name: str = "pack", single: bool = False, version: Version = "v1", rate: int = 0
    ) -> Pack:
        made = super().pack(files, name=name, single=single, version=version, rate=rate)
        if any(len(part.encode()) > NAME_BYTES_MAX for path in (name, *files) for part in path.split("/")):
            self._peers.append(Peer(made, self.listen_port))
        return made

    def restart(self, *, keep: bool) -> None:
        self.kill()
        if not keep:
            shutil.rmtree(self.profile / "qBittorrent" / "data" / "BT_backup")
        self._server = self._started(port=self.port, secret=self.secret)
