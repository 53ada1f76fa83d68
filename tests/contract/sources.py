"""What the harnesses of real engines have in common: orders for what the origin has, as addresses and as torrents."""

from __future__ import annotations

from collections.abc import Mapping

from tests.contract.engine_suite import SIZE, http_order
from tests.contract.torrent_suite import torrent_order
from tests.origin import Origin, content
from tests.torrents import FILES, Pack, Version, pack, web_seeded
from worker.ports import Engine, Order


class HttpSources:
    """Makes a harness of HTTP addresses."""

    engine: Engine
    origin: Origin

    def url(self, path: str) -> str:
        return path if path.startswith("magnet:") else self.origin.url(path)

    def order(self, transfer: str, attempt: int = 1, *, size: int = SIZE, rate: int = 0, name: str | None = None) -> Order:
        return http_order(self, transfer, attempt, size=size, rate=rate, name=name)

    def bad_order(self, transfer: str) -> Order:
        return http_order(self, transfer, path="magnet:?xt=urn:btih:zz")

    def fetched(self, order: Order) -> int:
        return self.origin.bytes_served[f"/file/{order.transfer}.bin"]

    def step(self) -> None:
        self.origin.stopping.wait(0.01)

    def break_source(self, order: Order) -> None:
        """The origin answers 404 by itself."""


class TorrentSources:
    """Makes a harness of `.torrent` files with the origin as their web seed."""

    engine: Engine
    origin: Origin

    @property
    def hybrids(self) -> bool:
        return True

    def order(self, transfer: str, attempt: int = 1, *, size: int = SIZE, rate: int = 0, name: str | None = None) -> Order:
        seed = self.origin.url(f"/with/size={size}&seed=7&rate={rate}/file/{transfer}.bin")
        made = pack({"": content(size, 7)}, name=name or f"{transfer}.bin", single=True, web_seeds=(seed,))
        return torrent_order(self.engine, transfer, made.document, attempt)

    def bad_order(self, transfer: str) -> Order:
        return torrent_order(self.engine, transfer, b"<html>please log in</html>")

    def fetched(self, order: Order) -> int:
        return self.origin.bytes_served[f"/file/{order.transfer}.bin"]

    def step(self) -> None:
        self.origin.stopping.wait(0.01)

    def pack(
        self, files: Mapping[str, bytes] = FILES, *, name: str = "pack", single: bool = False, version: Version = "v1", rate: int = 0
    ) -> Pack:
        return web_seeded(self.origin, pack(files, name=name, single=single, version=version), rate=rate)
