"""What an admission sees of the engines: as their owners saw them last, with what the store counts there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.admission.decide import EngineView, able_engines
from worker.admission.space import Space, look
from worker.jobs.model import Job
from worker.ports import EngineSnapshot, Services


def seen_now(services: Services, short: Sequence[Job], now: float) -> tuple[dict[str, EngineView], Space]:
    """The engines and their volumes, with what is held there for those that have waited for space too long.

    Args:
        short: that wait for space, those that have waited longest first.
        now: the store's clock.
    """
    snapshots = services.coordinator.snapshots()
    views, space = engine_views(services, snapshots), look(services, snapshots)
    for job in short:
        space.hold(job, [view.name for view in able_engines(job, views) if view.alive], now)
    return views, space


def engine_views(services: Services, snapshots: Mapping[str, EngineSnapshot]) -> dict[str, EngineView]:
    """Each configured engine."""
    live = services.store.engine_counts()
    return {name: _view(name, snapshots.get(name), live.get(name, 0), services) for name in services.engines}


def _view(name: str, snapshot: EngineSnapshot | None, live: int, services: Services) -> EngineView:
    engine = services.engines[name]
    alive = snapshot is not None and snapshot.error is None
    ahead = snapshot.ahead if snapshot else 0
    return EngineView(name, engine.features, engine.slots + ahead, live, alive)
