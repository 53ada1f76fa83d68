"""The same downloads on engines of their own that die at the same moments: what engines fetch again without Haul."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.wishes import Wish
from tests.origin import Origin
from worker.jobs.errors import Transient
from worker.jobs.model import Source, SourceKind
from worker.ports import Engine, ItemStatus, Order

LOOK_S = 0.5
#: So that its files are told from Haul's by their names.
PREFIX = "s"


class Alone:
    """Gives each download to its engine again until it is complete; that is all the care it takes."""

    def __init__(self, engines: Mapping[str, Engine], origin: Origin) -> None:
        self._engines = engines
        self._origin = origin
        self._orders: dict[str, dict[str, Order]] = {name: {} for name in engines}
        self._complete: set[str] = set()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._look_after, args=(engine,), daemon=True) for engine in engines.values()]

    def start(self) -> None:
        """Look after the engines from now on."""
        for thread in self._threads:
            thread.start()

    def want(self, wishes: Sequence[Wish]) -> None:
        """Have these too."""
        for wish in wishes:
            if wish.to_be_had and wish.like is None and wish.key not in self._orders[wish.engine]:
                self._orders[wish.engine][wish.key] = self._order(wish)

    @property
    def missing(self) -> int:
        """Downloads that are not complete."""
        return sum(map(len, self._orders.values())) - len(self._complete)

    def stop(self) -> None:
        """Look after them no more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(15)

    def _order(self, wish: Wish) -> Order:
        engine = self._engines[wish.engine]
        directory = Path(engine.directory, ".haul", wish.id, engine.name)
        directory.mkdir(parents=True)
        if wish.torrent:
            return Order(wish.id, 1, Source(SourceKind.TORRENT, "torrent:"), str(directory), document=wish.document(self._origin, PREFIX))
        return Order(wish.id, 1, Source(SourceKind.HTTP, wish.url(self._origin, PREFIX)), str(directory))

    def _look_after(self, engine: Engine) -> None:
        while not self._stopping.wait(LOOK_S):
            with suppress(Transient):
                self._give(engine)

    def _give(self, engine: Engine) -> None:
        items = engine.poll().items
        orders = dict(self._orders[engine.name])
        for key, order in orders.items():
            item = items.get(engine.handle(order.transfer, 1))
            if item is not None and item.status is ItemStatus.COMPLETE:
                self._complete.add(key)
        failed = [handle for handle, item in items.items() if item.status is ItemStatus.FAILED]
        if failed:
            engine.remove(failed)
        absent = [order for key, order in orders.items() if key not in self._complete and engine.handle(order.transfer, 1) not in items]
        if absent:
            engine.submit(absent[:50])
