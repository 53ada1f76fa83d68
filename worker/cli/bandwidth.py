"""The commands on the budget of bandwidth: show it, set it while everything runs, take that back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import note, print_json
from worker.notation.sizes import size_text


def commands() -> typer.Typer:
    """The group `haul bandwidth`."""
    group = typer.Typer(name="bandwidth", help="What all engines may take together.", no_args_is_help=True, rich_markup_mode=None)
    group.command(name="show")(show)
    group.command(name="set")(set_schedule)
    group.command(name="clear")(clear)
    return group


def show(as_json: options.Json = False) -> None:
    """Show the budget in force, when it changes next, and what each engine is held to and takes.

    Example: haul bandwidth show
    """
    from worker import pipeline
    from worker.cli.connect import connected

    with connected() as services:
        _tell(pipeline.bandwidth(services), as_json)


def set_schedule(
    schedule: Annotated[str, typer.Argument(help='As "50 MiB; Mon-Fri 08:00-18:00 10 MiB", by HAUL_TIMEZONE.', metavar="SCHEDULE")],
    as_json: options.Json = False,
) -> None:
    """Set the budget at run time; it goes before HAUL_BANDWIDTH and is in force within seconds.

    Example: haul bandwidth set "50 MiB; Mon-Fri 08:00-18:00 10 MiB; Sat,Sun 00:00-24:00 unlimited"
    """
    _set(schedule, as_json)


def clear(as_json: options.Json = False) -> None:
    """Take back what was set at run time; HAUL_BANDWIDTH counts again, or nothing when it is not set.

    Example: haul bandwidth clear
    """
    _set(None, as_json)


def _set(schedule: str | None, as_json: bool) -> None:
    from worker import pipeline
    from worker.cli.connect import connected

    with connected() as services:
        _tell(pipeline.set_bandwidth(services, schedule), as_json)
    if not as_json:
        note("in force everywhere within some seconds")


def _tell(seen: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(seen)
        return
    rows = [
        ("schedule", f"{seen['schedule']} ({seen['from']})" if seen["schedule"] else "none: the engines' own limits are left alone"),
        ("now", f"{_rate(seen['rate'])} at {seen['now']} {seen['timezone']}"),
        ("next", f"{_rate(seen['next_rate'])} at {seen['next_at']}" if seen["next_at"] else "no change"),
        ("taken", f"{size_text(seen['speed'])}/s"),
    ]
    for engine in seen["engines"]:
        state = "" if engine["up"] else " (not seen)"
        unheld = f", {engine['unheld']} downloads do not show their limit" if engine["unheld"] else ""
        held = f"share {_rate(engine['share'])}, told {_rate(engine['told'])}, shows {_rate(engine['limit'])}"
        rows.append((engine["name"], f"{held}, takes {size_text(engine['speed'])}/s{unheld}{state}"))
    for budget in seen["budgets"]:
        taken = f"{size_text(budget['speed'])}/s taken by {budget['running']} downloads"
        rows.append((budget["budget"], f"{_rate(budget['rate'])}, {taken}"))
    for name, words in rows:
        sys.stdout.write(f"{name:16} {words}\n")
    if seen["fault"]:
        note(seen["fault"])


def _rate(rate: int | None) -> str:
    return "no limit" if rate is None else f"{size_text(rate)}/s"
