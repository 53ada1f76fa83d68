"""What an admission sees of the engines: as their owners saw them last, with what the store counts there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from worker.admission.balance import Balance
from worker.admission.decide import EngineView, able_engines
from worker.admission.space import Space, look
from worker.admission.standing import duration
from worker.breaker import Circuit
from worker.jobs.model import Job
from worker.ports import EngineSnapshot, Services


def seen_now(services: Services, short: Sequence[Job], now: float) -> tuple[dict[str, EngineView], Space]:
    """The engines and their volumes, with what is held there for those that have waited for space too long.

    Args:
        short: that wait for space, those that have waited longest first.
        now: the store's clock.
    """
    snapshots = services.coordinator.snapshots()
    space = look(services, snapshots)
    views = engine_views(services, snapshots, space, now)
    able = {job.id: [view.name for view in able_engines(job, views) if view.alive and not view.draining] for job in short}
    for job in short:
        space.hold(job, able[job.id], now)
    for job in sorted(short, key=lambda job: (job.created_at, job.id)):
        space.prefer(job, able[job.id])
    return views, space


def engine_views(services: Services, snapshots: Mapping[str, EngineSnapshot], space: Space, now: float) -> dict[str, EngineView]:
    """Each configured engine."""
    live, drains = services.store.engine_counts(), services.drains()
    views = {name: _view(name, snapshots.get(name), live.get(name, 0), services, space, now) for name in services.engines}
    return {name: replace(view, draining=name in drains) for name, view in views.items()}


def balance_now(services: Services) -> Balance:
    """The strategy of the settings, and where it is."""
    balance = Balance(services.settings.balancer)
    return Balance(balance.strategy, services.coordinator.count_starts()) if balance.counts else balance


def _view(name: str, snapshot: EngineSnapshot | None, live: int, services: Services, space: Space, now: float) -> EngineView:
    engine = services.engines[name]
    view = EngineView(name, engine.features, engine.slots, live, False, weight=engine.weight, available=space.available(name))
    if snapshot is None:
        return view
    tried = snapshot.breaker == Circuit.HALF_OPEN
    return replace(
        view,
        capacity=min(1, engine.slots) if tried else engine.slots + snapshot.ahead,
        alive=snapshot.error is None and snapshot.breaker != Circuit.OPEN,
        trouble=trouble(snapshot, now),
        outstanding=max(0, space.whole.get(name, 0) - snapshot.done),
        pace=snapshot.pace,
        level=snapshot.level,
    )


def engine_trouble(services: Services, name: str) -> str | None:
    """What keeps an engine from the jobs it has, as its owner said last; None when nothing does, or nobody looks. Raises Transient."""
    seen = services.coordinator.snapshots().get(name)
    return trouble(seen, services.store.now()) if seen is not None and seen.error is not None else None


def trouble(snapshot: EngineSnapshot, now: float) -> str | None:
    """What is wrong with an engine, in words that go on from its name; None when nothing is."""
    if snapshot.unproved:
        return snapshot.error
    if snapshot.silent_since is not None:
        return f"has not answered for {duration(max(0.0, now - snapshot.silent_since))}"
    if snapshot.error is not None:
        return "does not answer"
    if snapshot.breaker == Circuit.OPEN:
        left_s = max(0.0, (snapshot.until or 0.0) - now)
        return f"rests for another {duration(left_s)} after failures of its own ({snapshot.reason})"
    if snapshot.breaker == Circuit.HALF_OPEN:
        return f"is tried with one job after failures of its own ({snapshot.reason})"
    return None
