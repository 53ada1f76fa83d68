"""What the advisors of all processes found, and the indexes of the store against those declared."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import Exit, note, print_json

if TYPE_CHECKING:
    from worker.store.drift import Drift
    from worker.store.indexes import Indexes

DropUnknown = Annotated[bool, typer.Option("--drop-unknown", help="Drop indexes that are not Haul's, and make anew those that differ.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before indexes are dropped.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def indexes() -> typer.Typer:
    """The group `haul indexes`."""
    group = typer.Typer(name="indexes", help="The indexes of the store.", no_args_is_help=True, rich_markup_mode=None)
    group.command()(plan)
    group.command()(apply)
    group.command()(drift)
    return group


def advise(as_json: options.Json = False) -> None:
    """Show what should be asked of the store otherwise: loops, scans, sorts, slow and unbounded reads, reads worth a cache, unused indexes.

    Each process watches what it asks and shares what it found, without any value; what is shown is of the last hour.

    Example: haul advise
    """
    from worker.cli.connect import connected

    with connected() as services:
        advice = services.coordinator.advice()
    findings = merged(advice.values())
    if as_json:
        print_json({"processes": len(advice), "findings": findings})
        return
    if not advice:
        note("no process has told anything yet; each does so some seconds after it began to work")
    for finding in findings:
        where = ", ".join(text for text in (finding["doing"], finding["place"]) if text)
        sys.stdout.write(f"{finding['kind']:14} {finding['operation']}\n")
        for text in (where, finding["evidence"], finding["advice"], finding["index"]):
            sys.stdout.write(f"{'':14} {text}\n" if text else "")
    if advice and not findings:
        sys.stdout.write(f"nothing to advise, from what {len(advice)} {'process' if len(advice) == 1 else 'processes'} told\n")


def merged(advice: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The findings of all processes, the same one of several counted once with the evidence of the one that met it most; dearest first."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each in (finding for process in advice for finding in process.get("findings", ())):
        key = (each["kind"], each["operation"], each["doing"])
        known = found.get(key)
        if known is None:
            found[key] = {**each, "processes": 1}
            continue
        more = each if each["count"] > known["count"] else known
        sums = {name: known[name] + each[name] for name in ("count", "seconds")}
        found[key] = {**more, **sums, "processes": known["processes"] + 1}
    return sorted(found.values(), key=lambda finding: float(finding["seconds"]), reverse=True)


def plan(as_json: options.Json = False) -> None:
    """Show what `haul indexes apply` would make, and what it would leave alone; writes nothing.

    Example: haul indexes plan
    """
    with closing(_opened()) as store:
        _tell(store.drift(), as_json)


def drift(as_json: options.Json = False) -> None:
    """Compare the store with what Haul declares; exit code 1 when they differ.

    Example: haul indexes drift --json
    """
    with closing(_opened()) as store:
        found = store.drift()
    _tell(found, as_json)
    raise typer.Exit(Exit.OK if found.none else Exit.FAILED)


def apply(drop_unknown: DropUnknown = False, yes: Yes = False, dry_run: DryRun = False, as_json: options.Json = False) -> None:
    """Make the indexes that are missing. Others are dropped only with --drop-unknown, and after a question.

    While an index is made, writers of the same store may wait.

    Example: haul indexes apply --dry-run
    """
    with closing(_opened()) as store:
        found = store.drift()
        if dry_run:
            _tell(found, as_json)
            return
        doomed = [*found.foreign, *found.changed] if drop_unknown else []
        if doomed and not yes:
            typer.confirm(f"Drop {', '.join(doomed)}?", abort=True, err=True)
        store.drop(doomed)
        store.make([*found.missing, *(found.changed if drop_unknown else ())])
        _tell(store.drift(), as_json)


def _opened() -> Indexes:
    from worker.settings import load
    from worker.store.indexes import open_indexes

    settings = load()
    return open_indexes(settings.store_address, settings.profile)


def _tell(found: Drift, as_json: bool) -> None:
    if as_json:
        print_json(
            {"missing": dict(found.missing), "changed": dict(found.changed), "foreign": dict(found.foreign), "tables": list(found.tables)}
        )
        return
    for what, names in (("missing", found.missing), ("changed", found.changed), ("foreign", found.foreign)):
        for name, text in names.items():
            sys.stdout.write(f"{what:8} {name}  {text}\n")
    for text in found.tables:
        sys.stdout.write(f"{'table':8} {text}\n")
    if found.none:
        sys.stdout.write("the store is as declared\n")
