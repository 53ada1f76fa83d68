"""The budget of bandwidth as the operator sees and sets it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from worker.jobs.errors import Rejected, Transient
from worker.jobs.limits import SCHEDULE
from worker.jobs.tiers import Limits
from worker.notation.bandwidth import EXAMPLE, Budget, read_budget
from worker.ports import EngineSnapshot, Services

#: Characters of a budget; each hour of the week with a rate of its own takes half as many.
SCHEDULE_MAX = 10_000


def bandwidth(services: Services, *, taken_back: str | None = None) -> dict[str, Any]:
    """The budget in force, what each engine has of it, and how the tiers' and users' own budgets are used; JSON values.

    Args:
        taken_back: what was set at run time a moment ago: owners that still tell of it have not looked since.

    Raises:
        Transient: the store does not answer. Without Redis the engines are shown without what they take.
    """
    set_now = services.store.limits().get(SCHEDULE)
    try:
        seen = services.coordinator.snapshots()
    except Transient:
        seen = {}
    told = next((snapshot for snapshot in seen.values() if snapshot.zone), None)  # this process may have other settings than the owners
    of_settings = told.budget if told and told.budget != taken_back else services.settings.bandwidth
    written = str(set_now) if set_now is not None else of_settings
    zone = ZoneInfo(told.zone if told else services.settings.timezone)
    now = datetime.fromtimestamp(services.clock.time(), zone)
    budget = read_budget(written)
    change = budget.change_after(now) if budget else None
    return {
        "schedule": written or None,
        "from": "run time" if set_now is not None else "settings" if written else None,
        "timezone": str(zone),
        "now": now.isoformat(timespec="seconds"),
        "rate": budget.at(now) if budget else None,
        "next_at": change[0].isoformat(timespec="seconds") if change else None,
        "next_rate": change[1] if change else None,
        "speed": sum(snapshot.speed for snapshot in seen.values()),
        "in_force": _in_force(budget, written, seen),
        "engines": [_engine(services, name, seen.get(name)) for name in sorted(services.engines)],
        "budgets": _budgets(_limits(services), seen),
        "fault": services.tiers.fault,
    }


def set_bandwidth(services: Services, schedule: str | None) -> dict[str, Any]:
    """Set the budget of all engines at run time, over that of the settings; None takes it back. As `bandwidth` then shows it.

    Owners go by it within seconds.

    Raises:
        Rejected: it cannot be understood; two windows that overlap are both named.
        Transient: the store does not answer.
    """
    before = services.store.limits().get(SCHEDULE)
    if schedule is None:
        services.store.set_limits({}, drop=[SCHEDULE])
    else:
        services.store.set_limits({SCHEDULE: checked(schedule)})
    with contextlib.suppress(Transient):  # they look every few seconds anyway
        for engine in services.engines:
            services.coordinator.wake(engine)
    return bandwidth(services, taken_back=str(before) if before is not None else None)


def checked(schedule: str) -> str:
    """The text of a budget, if it is one. Raises Rejected."""
    if len(schedule) > SCHEDULE_MAX:
        raise Rejected("schedule", f"is longer than {SCHEDULE_MAX} characters", fix=f"for example {EXAMPLE}")
    try:
        if read_budget(schedule) is None:
            raise Rejected("schedule", "is empty", fix=f"for example {EXAMPLE}; clear it to take back what was set")
    except ValueError as wrong:
        raise Rejected("schedule", str(wrong), fix=f"for example {EXAMPLE}") from None
    return schedule.strip()


def _in_force(budget: Budget | None, written: str, seen: Mapping[str, EngineSnapshot]) -> bool:
    """Whether every engine that answers goes by it, and shows the limit it was given."""
    up = [snapshot for snapshot in seen.values() if snapshot.error is None]
    agreed = all(snapshot.budget == written and snapshot.limit == snapshot.told for snapshot in up)
    return bool(up) and agreed and (budget is not None or all(snapshot.share is None for snapshot in up))


def _engine(services: Services, name: str, seen: EngineSnapshot | None) -> dict[str, Any]:
    return {
        "name": name,
        "weight": services.engines[name].weight,
        "up": seen is not None and seen.error is None,
        "share": seen.share if seen else None,
        "told": seen.told if seen else None,
        "limit": seen.limit if seen else None,
        "speed": seen.speed if seen else None,
        "unheld": seen.unheld if seen else None,
    }


def _budgets(limits: Limits, seen: Mapping[str, EngineSnapshot]) -> list[dict[str, Any]]:
    """Each tier's and user's own bandwidth, with what all engines tell of it."""
    rates = {f"tier:{name}": tier.bandwidth for name, tier in limits.tiers.items()}
    rates |= {f"user:{name}": own.get("bandwidth") for name, own in limits.users.items()}
    rows = []
    for name, rate in sorted(rates.items()):
        told = [snapshot.budgets.get(name, {}) for snapshot in seen.values()]
        running = sum(int(one.get("hungry", 0) + one.get("modest", 0)) for one in told)
        if rate is not None:
            rows.append({"budget": name, "rate": rate, "running": running, "speed": sum(int(one.get("speed", 0)) for one in told)})
    return rows


def _limits(services: Services) -> Limits:
    try:
        return services.tiers.fresh()
    except Transient:
        return Limits()
