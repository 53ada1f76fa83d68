"""The commands that look at the system: engines, queue, health."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import Exit, note, print_json
from worker.notation.sizes import size_text

if TYPE_CHECKING:
    from worker.ports import Services

#: What the checks of works by the clock begin with.
WORK = "work "


def list_engines(as_json: options.Json = False) -> None:
    """List the engines: whether they are up or drained, what they hold, their speed and free space.

    Example: haul engines list
    """
    from worker import pipeline
    from worker.cli.connect import connected

    with connected() as services:
        engines, fault = pipeline.overview(services)["engines"], services.pool.fault
    if fault:
        note(fault)
    if as_json:
        print_json({"engines": engines})
        return
    for engine in engines:
        sys.stdout.write(_engine_line(engine) + "\n")


def queue(as_json: options.Json = False) -> None:
    """Show how many jobs are in each state, what waits, and what the engines do.

    Example: haul queue
    """
    from worker import pipeline
    from worker.cli.connect import connected

    with connected() as services:
        seen = pipeline.overview(services)
    if as_json:
        print_json(seen)
        return
    for state, count in seen["jobs"].items():
        sys.stdout.write(f"{state:12} {count}\n")
    sys.stdout.write(f"\n{'waiting':12} {seen['waiting']}\n{'intake':12} {seen['intake']}\n{'parked':12} {seen['parked']}\n\n")
    for line in _waiting_lines(seen):
        sys.stdout.write(line + "\n")
    for engine in seen["engines"]:
        sys.stdout.write(_engine_line(engine) + "\n")


def health(
    deep: Annotated[bool, typer.Option("--deep", help="Ask every engine itself, not only for what its supervisor saw.")] = False,
    as_json: options.Json = False,
) -> None:
    """Check what a job needs: store, Redis, engines and their supervisor; and how what is done by the clock went.

    Exit code 3 when something is down, 1 when all is up and a work by the clock failed, was missed, or is overdue.

    Example: haul health --deep
    """
    from worker.cli.connect import connected

    with connected() as services:
        checks = _checks(services, deep)
    ok = all(check["ok"] for check in checks.values())
    if as_json:
        print_json({"ok": ok, "checks": checks})
    for name, check in checks.items() if not as_json else ():
        bad = "FAILED" if name.startswith(WORK) else "DOWN "
        words = f"ok    {check.get('note') or format(check['ms'], '.0f') + ' ms'}" if check["ok"] else f"{bad} {check['error']}"
        sys.stdout.write(f"{name:24} {words}\n")
    there = all(check["ok"] for name, check in checks.items() if not name.startswith(WORK))
    raise typer.Exit(Exit.OK if ok else Exit.FAILED if there else Exit.UNREACHABLE)


def _checks(services: Services, deep: bool) -> dict[str, dict[str, Any]]:
    from worker import pipeline
    from worker.engines.volume import unusable

    checks = {"store": _check(services.store.ping), "redis": _check(services.coordinator.ping)}
    checks["limits"] = _limits(services)
    checks |= _works(services) if checks["store"]["ok"] else {}
    if services.settings.engines_file:
        checks["list of engines"] = {"ok": services.pool.fault is None, "error": services.pool.fault, "ms": 0.0}
    if checks["redis"]["ok"]:
        snapshots, drained = services.coordinator.snapshots(), pipeline.away_on_purpose(services)
        for name in services.engines:
            seen = snapshots.get(name)
            error = "no supervisor has looked at it in the last seconds" if seen is None else seen.error
            checks[f"supervisor of {name}"] = {"ok": error is None or name in drained, "error": error, "ms": 0.0}
    for name, engine in services.engines.items() if deep else ():
        checks[f"engine {name}"] = _check(engine.poll)
        fault = unusable(engine.directory)
        checks[f"volume of {name}"] = {"ok": fault is None, "error": fault, "ms": 0.0}
    return checks | _egress(services, deep) | _backups(services)


def _egress(services: Services, deep: bool) -> dict[str, dict[str, Any]]:
    """What keeps downloads out of private networks, in words; each engine is tried when something else than Haul is to keep it out."""
    from worker.admission.guard import WORDS, unproved
    from worker.jobs.errors import Transient

    settings = services.settings
    checks: dict[str, dict[str, Any]] = {"egress": {"ok": True, "error": None, "ms": 0.0, "note": WORDS[settings.egress]}}
    for name, engine in services.engines.items() if deep and not settings.checks else ():
        begun = time.perf_counter()
        try:
            error = unproved(engine, settings)
        except Transient as unanswered:
            error = str(unanswered)
        ms = round((time.perf_counter() - begun) * 1000, 1)
        checks[f"guard of {name}"] = {"ok": error is None, "error": error and f"not proved: {error}", "ms": ms}
    return checks


def _works(services: Services) -> dict[str, dict[str, Any]]:
    """Works by the clock that failed, were missed, or are overdue."""
    from beat_schedule import CLOCK
    from worker.maintenance.standing import standings
    from worker.maintenance.timetable import Timetable

    found = standings(services, Timetable.of(CLOCK, services))
    return {f"{WORK}{each.name}": {"ok": False, "error": each.trouble, "ms": 0.0} for each in found if not each.ok}


def _backups(services: Services) -> dict[str, dict[str, Any]]:
    """In words; a backup that is missing keeps no job from running, so nothing here is down."""
    from worker.jobs.errors import Transient
    from worker.maintenance.backup.standing import words

    try:
        said = words(services.store, services.settings, time.time())
    except Transient:
        return {}  # the store says so itself
    return {"backup": {"ok": True, "error": None, "ms": 0.0, "note": said}}


def _limits(services: Services) -> dict[str, Any]:
    """Whether the limits can be read as they were written last."""
    found = _check(services.tiers.fresh)
    fault = found["error"] or services.tiers.fault
    return {**found, "ok": fault is None, "error": fault}


def _check(ask: Callable[[], object]) -> dict[str, Any]:
    from worker.jobs.errors import Transient

    begun = time.perf_counter()
    error = None
    try:
        ask()
    except Transient as refusal:
        error = str(refusal)
    return {"ok": error is None, "error": error, "ms": round((time.perf_counter() - begun) * 1000, 1)}


def _waiting_lines(seen: Mapping[str, Any]) -> list[str]:
    """The users who wait, a line each, and an empty one."""
    if not seen["users"]:
        return []
    pace = seen["starts_per_minute"]
    lines = [f"starts       {f'about {pace:.1f} a minute' if pace else 'unknown, no slot became free lately'}"]
    for user in seen["users"]:
        most = f" of {user['running_max']} at most" if user["running_max"] is not None else ""
        lines.append(
            f"{user['user']:12} {user['waiting']} waiting, {user['slots']} running{most}, weight {user['weight']:g} ({user['tier']})"
        )
    if seen["waiting_users"] > len(seen["users"]):
        lines.append(f"… and {seen['waiting_users'] - len(seen['users'])} users more")
    return [*lines, ""]


def _engine_line(engine: Mapping[str, Any]) -> str:
    state = f"{engine['state']:9}" if engine["state"] in ("draining", "drained") else "up   "
    moving = ", moves to others" if engine["move"] and engine["live"] else ", not set up any more" if engine["leaving"] else ""
    if not engine["up"]:
        drained = f"{engine['state']}, {engine['running']} there{moving}; " if state != "up   " else ""
        silent = f"; it {engine['trouble']}" if engine["breaker"] == "open" else ""
        return f"{engine['name']:12} DOWN  {drained}{engine['error']}{silent}"
    held = [f"{engine['live']}/{engine['slots']} slots{moving}"]
    held += [f"{engine[what]} {what}" for what in ("waiting", "finishing", "seeding") if engine[what]]
    held += [f"{size_text(engine['speed'])}/s", f"{size_text(engine['free_bytes'])} free", f"weight {engine['weight']}"]
    held += [engine["version"]] if engine["version"] else []
    held += [f"{engine['foreign']} items that are not Haul's"] if engine["foreign"] else []
    trouble = f"; it {engine['trouble']}" if engine["trouble"] else ""
    return f"{engine['name']:12} {state} {', '.join(held)}{trouble}"
