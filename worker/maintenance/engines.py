"""What each engine has, does and lacks: a line an hour, for whoever asks in the morning how the night was."""

from __future__ import annotations

from typing import Any

from worker.jobs.states import IN_SLOT, State
from worker.maintenance.report import Report
from worker.ports import EngineSnapshot, Services

#: Engines that are told of one by one.
NAMED_MAX = 50


def run(services: Services) -> Report:
    """Write down what their owners saw last. Raises Transient when store or Redis do not answer."""
    seen, states, drained = services.coordinator.snapshots(), services.store.engine_states(), services.drains()
    names = sorted({*services.engines, *seen})
    away = [name for name in names if name not in drained and (name not in seen or seen[name].error is not None)]
    figures = {
        "engines": len(names),
        "engines_away": len(away),
        "bytes_per_second": sum(each.speed for each in seen.values()),
        "jobs_in_slots": sum(count for held in states.values() for state, count in held.items() if state in IN_SLOT),
        "jobs_seeding": sum(held.get(State.DONE, 0) for held in states.values()),
    }
    summary = f"{len(names)} engines, " + (f"away: {', '.join(away[:NAMED_MAX])}" if away else "all there")
    details = {name: {"drained": name in drained, **_of(seen.get(name))} for name in names[:NAMED_MAX]}
    return Report(True, summary, figures, details)


def _of(seen: EngineSnapshot | None) -> dict[str, Any]:
    if seen is None:
        return {"up": False, "error": "no supervisor has looked at it in the last seconds"}
    kept = ("version", "slots", "items", "waiting", "foreign", "speed", "pace", "limit", "free_bytes", "breaker", "level", "reason")
    return {"up": seen.error is None, "error": seen.error, **{name: getattr(seen, name) for name in kept}}
