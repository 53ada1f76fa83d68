"""The commands on what is done by the clock: when each work is due, how it went, and to run one now."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from worker.cli import options
from worker.cli.output import Exit, note, print_json, time_text

if TYPE_CHECKING:
    from worker.maintenance.timetable import Timetable
    from worker.ports import Run, Services

Name = Annotated[str, typer.Argument(metavar="NAME", help="A work of `haul schedule list`.")]
AnyName = Annotated[str | None, typer.Argument(metavar="NAME", help="A work; all of them when left out.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many runs, newest first.")]


def commands() -> typer.Typer:
    """The group `haul schedule`."""
    group = typer.Typer(name="schedule", help="What is done by the clock.", no_args_is_help=True, rich_markup_mode=None)
    group.command(name="list")(list_works)
    group.command()(run)
    group.command()(history)
    return group


def list_works(as_json: options.Json = False) -> None:
    """Show each work: when it is due next, when it ran last, how long that took, what came of it, and what was missed.

    Exit code 1 when the last run of a work failed, or its last time was missed.

    Example: haul schedule list
    """
    from worker.cli.connect import connected
    from worker.maintenance.standing import standings

    with connected() as services:
        found = standings(services, _timetable(services))
        zone = services.settings.timezone
    if as_json:
        print_json({"timezone": zone, "works": [each.view() for each in found]})
    for each in found if not as_json else ():
        words = "never ran" if each.last is None else _run_words(each.last, zone)
        missed = f"; missed {each.missed} of late" if each.missed else ""
        running = f"; runs since {_time_text(each.running.started_at, zone)}" if each.running else ""
        sys.stdout.write(f"{each.name:15} next {_time_text(each.next_at, zone)}  {each.cron:12} {words}{missed}{running}\n")
    raise typer.Exit(Exit.OK if all(each.ok for each in found) else Exit.FAILED)


def run(name: Name, dry_run: DryRun = False, as_json: options.Json = False) -> None:
    """Run a work now, here, and write it into the ledger; exit code 1 when it fails, or when it runs already.

    Example: haul schedule run retention --dry-run
    """
    from worker import logs
    from worker.cli.connect import connected
    from worker.jobs.errors import Rejected

    logs.configure("error", "text")
    with connected() as services:
        timetable = _timetable(services)
        if name not in timetable.works or name not in timetable.entries:
            raise Rejected("name", f"there is no work {name!r}", fix=f"one of: {', '.join(sorted(timetable.works))}")
        if dry_run and name not in timetable.rehearsals:
            raise Rejected("dry-run", f"{name} cannot tell what it would do", fix=f"only {', '.join(sorted(timetable.rehearsals))} can")
        if not as_json and not dry_run:
            note(f"{name} runs; Ctrl-C breaks it off, and the next run clears up")
        try:
            report = timetable.rehearsals[name](services) if dry_run else timetable.run_now(services, name)
        except KeyboardInterrupt:  # the ledger says so by now
            raise typer.Exit(Exit.INTERRUPTED) from None
    if report is None:
        note(f"{name}, or a work that must not run beside it, runs already; see `haul schedule list`")
        raise typer.Exit(Exit.FAILED)
    if as_json:
        print_json({"name": name, "ok": report.ok, "dry_run": dry_run, **report.document()})
    else:
        sys.stdout.write(f"{'would: ' if dry_run else '' if report.ok else 'FAILED: '}{report.summary}\n")
        for figure, value in report.figures.items():
            sys.stdout.write(f"{figure:28} {value:g}\n")
    raise typer.Exit(Exit.OK if report.ok else Exit.FAILED)


def history(name: AnyName = None, limit: Limit = 50, as_json: options.Json = False) -> None:
    """Show the ledger: what ran when, for how long, what came of it, and what was missed.

    Example: haul schedule history backup
    """
    from worker.cli.connect import connected

    with connected() as services:
        lines, zone = _lines(services, name, limit), services.settings.timezone
    if as_json:
        print_json({"runs": [_line_view(line) for line in lines]})
        return
    for line in lines:
        sys.stdout.write(f"{line.name:15} {line.slot:28} {_run_words(line, zone)}\n")


def _lines(services: Services, name: str | None, limit: int) -> list[Run]:
    from beat_schedule import CLOCK
    from worker.jobs.errors import NotFound
    from worker.maintenance.backup import standing as backups

    names = tuple(dict.fromkeys((*CLOCK, *backups.NAMES)))
    if name is not None:
        lines = services.store.runs(name, limit)
        if not lines and name not in names:  # one that is done no more has its lines still
            raise NotFound("name", f"there is no work {name!r} in the ledger", fix=f"one of: {', '.join(sorted(names))}")
        return lines
    found = services.store.latest_runs(names, limit)
    return sorted((line for lines in found.values() for line in lines), key=lambda line: line.started_at, reverse=True)[:limit]


def _timetable(services: Services) -> Timetable:
    from beat_schedule import CLOCK
    from worker.maintenance.timetable import Timetable

    return Timetable.of(CLOCK, services)


def _line_view(line: Run) -> dict[str, Any]:
    from worker.maintenance.past import result_of

    return {
        "name": line.name,
        "slot": line.slot,
        "owner": line.owner,
        "started_at": line.started_at,
        "ended_at": line.ended_at,
        "result": result_of(line),
        **dict(line.report),
    }


def _run_words(line: Run, zone: str) -> str:
    from worker.maintenance.past import result_of

    took = f" in {time_text(line.ended_at - line.started_at)}" if line.ended_at is not None else ""
    return f"{result_of(line):7} {_time_text(line.started_at, zone)}{took}: {line.report.get('summary', '')}".rstrip(": ")


def _time_text(at: float | None, zone: str) -> str:
    return "never" if at is None else f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%d %H:%M}"
