"""The steps over a real store and real files, with Redis and engines in memory, moved by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker.admission.admit import admit
from worker.coordination.fake import FakeCoordinator
from worker.delivery.finish import finish
from worker.engines.fake import FakeEngine
from worker.failpoints import Failpoints
from worker.jobs.model import Job, Request, Source, SourceKind
from worker.metrics import Metrics
from worker.notify.stream import StreamNotifier
from worker.pipeline import accept
from worker.ports import Engine, JobStore, Lease, Services
from worker.settings import load
from worker.store.sqlite.store import SqliteStore
from worker.supervision.owner import Owner
from worker.wiring import WakeNudger, WallClock

MAGNET = "magnet:?xt=urn:btih:" + "a1" * 20


def services_of(
    directory: Path, store: JobStore, engines: Sequence[Engine], *, settings: dict[str, Any] | None = None, **parts: Any
) -> Services:
    """What a process works with, all in memory but for the store; `parts` replace fields of `Services`."""
    metrics = parts.pop("metrics", None) or Metrics()
    coordinator = parts.pop("coordinator", None) or FakeCoordinator()
    given: dict[str, Any] = {
        "settings": load(data_dir=directory, **{"probe": "never", "egress": "guarded", **(settings or {})}),
        "store": store,
        "coordinator": coordinator,
        "engines": {engine.name: engine for engine in engines},
        "nudger": WakeNudger(coordinator, metrics),
        "notifier": StreamNotifier(coordinator),
        "clock": WallClock(),
        "metrics": metrics,
        "failpoints": Failpoints(""),
        "owner": "test",
    }
    return Services(**{**given, **parts})


class Machine:
    """One engine, one store, and the steps around them, moved by hand."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.now = 1_000.0
        self.downloads = directory / "downloads"
        self.downloads.mkdir()
        self.engine = FakeEngine(str(self.downloads))
        store = SqliteStore(directory / "haul.db", lambda: self.now)
        self.services = services_of(directory, store, [self.engine], settings=settings)
        self.take_over()

    def take_over(self) -> None:
        """A new owner, as after a restart of the supervisor."""
        self._owner = Owner(self.services, self.engine)
        self._owner._held.keep()
        lease = self.services.store.acquire_lease("engine:fake", "test", 1e6)
        assert lease is not None
        self._lease: Lease = lease

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self._owner.tick(self._lease)

    def ask(self, uri: str = MAGNET, **request: Any) -> str:
        [answer] = accept(self.services, [Request(Source(SourceKind.MAGNET, uri), "u", **request)])
        assert not isinstance(answer, Exception), answer
        self.tick()
        admit(self.services, 100)
        self.tick()
        return answer.job.id

    def job(self, id: str) -> Job:
        return self.services.store.get([id])[id]

    def handle(self, id: str) -> str:
        return self.engine.handle(id, self.job(id).attempt)

    def seeding(self) -> str:
        """A job that is done and seeds."""
        id = self.ask(seed_ratio=2.0)
        self.engine.complete(self.handle(id))
        self.tick()
        finish(self.services, 100)
        self._owner._leftovers._cleared_at = float("-inf")
        self.tick()
        return id

    def seen_anew(self) -> None:
        """Reconcile, as each minute does."""
        self._owner._loaded_at = float("-inf")
        self.tick(3)
