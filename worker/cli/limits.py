"""The commands on limits: show them, set some at run time, take them back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import note, print_json, time_text
from worker.notation.sizes import size_text

if TYPE_CHECKING:
    from worker.ports import Services

TierName = Annotated[str | None, typer.Option("--tier", help="Of a tier.")]
UserName = Annotated[str | None, typer.Option("--user", help="Of one user, whatever his tier.")]
Everybody = Annotated[bool, typer.Option("--global", help="Of all users together.")]
SIZES = frozenset({"bytes_a_day", "largest_file", "bandwidth"})


def commands() -> typer.Typer:
    """The group `haul limits`."""
    group = typer.Typer(name="limits", help="What users may have.", no_args_is_help=True, rich_markup_mode=None)
    group.command(name="show")(show)
    group.command(name="set")(set_limits)
    group.command(name="reset")(reset)
    return group


def show(
    user: Annotated[str | None, typer.Argument(help="Show what this user has and may have.", metavar="[USER]")] = None,
    tier: Annotated[str | None, typer.Option("--tier", help="The user's tier; else that of his newest job.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show the limits in force, or what a user has of his: tokens, jobs, bytes of the day, when he may ask again.

    Example: haul limits show ann
    """
    from worker import pipeline
    from worker.cli.connect import connected

    with connected() as services:
        seen = pipeline.allowance(services, user, tier) if user else pipeline.limits(services)
    if as_json:
        print_json(seen)
    elif user:
        _tell(seen)
    else:
        _tell_all(seen, tier)
    if seen["fault"] and not as_json:
        note(seen["fault"])


def set_limits(
    limits: Annotated[list[str], typer.Argument(help='As rate=50 running=5 "largest_file=2 GiB" queued=none', metavar="LIMIT=VALUE…")],
    tier: TierName = None,
    user: UserName = None,
    everybody: Everybody = False,
    as_json: options.Json = False,
) -> None:
    """Set limits at run time; they go before the file of tiers and are in force everywhere within some seconds.

    Example: haul limits set --tier premium rate=50 running=5
    """
    from worker.cli.connect import connected
    from worker.jobs.errors import Rejected
    from worker.jobs.limits import override_key

    table, whose = _place(tier, user, everybody)
    values: dict[str, Any] = {}
    for limit in limits:
        name, equals, text = limit.partition("=")
        if not equals:
            raise Rejected(name, "has no value", fix=f"for example {name}=5; haul limits reset takes it back")
        values[name] = _value(table, name, text, whose)
    with connected() as services:
        _check(services, table, whose)
        services.store.set_limits({override_key(table, name, whose): value for name, value in values.items()})
        kept = services.store.limits()
    _confirm(kept, as_json)


def reset(
    names: Annotated[list[str] | None, typer.Argument(help="Only these; all that were set when none is named.", metavar="[LIMIT…]")] = None,
    tier: TierName = None,
    user: UserName = None,
    everybody: Everybody = False,
    as_json: options.Json = False,
) -> None:
    """Take back limits that were set at run time; those of the file count again.

    Example: haul limits reset --user ann running
    """
    from worker.cli.connect import connected
    from worker.jobs.errors import Rejected
    from worker.jobs.limits import field_names, override_key

    table, whose = _place(tier, user, everybody)
    known = field_names(table)
    for name in names or ():
        if name not in known:
            raise Rejected(name, "there is no such limit", fix=f"one of: {', '.join(known)}")
    with connected() as services:
        services.store.set_limits({}, drop=[override_key(table, name, whose) for name in names or known])
        kept = services.store.limits()
    _confirm(kept, as_json)


def _place(tier: str | None, user: str | None, everybody: bool) -> tuple[str, str]:
    """The table and whose it is. Raises Rejected unless exactly one is named."""
    from worker.jobs.errors import Rejected
    from worker.jobs.limits import GLOBAL
    from worker.jobs.requests import user_name

    named = [
        (table, whose) for table, whose in (("tiers", tier), ("users", user), (GLOBAL, "" if everybody else None)) if whose is not None
    ]
    if len(named) != 1:
        raise Rejected("limits", "whose is not clear", fix="give one of --tier, --user and --global")
    return (named[0][0], user_name(user)) if user is not None else named[0]


def _value(table: str, name: str, text: str, whose: str) -> Any:
    from worker.jobs.errors import Rejected
    from worker.jobs.limits import WrongLimit, of_text

    try:
        return of_text(table, name, text, f"{table}.{whose}" if whose else table)
    except WrongLimit as wrong:
        raise Rejected(wrong.field, wrong.detail, fix=wrong.fix) from None


def _check(services: Services, table: str, whose: str) -> None:
    from worker.admission.quotas import check_tier

    if table == "tiers":
        check_tier(whose, services.tiers.fresh())


def _confirm(kept: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(kept))
        return
    for key, value in sorted(kept.items()):
        table, name, whose = key.split("/", 2)
        sys.stdout.write(f"{table} {whose}".strip() + f"  {name} = {_words(name, value)}\n")
    note("in force everywhere within some seconds" if kept else "nothing is set at run time any more")


def _tell(seen: Mapping[str, Any]) -> None:
    limits = seen["limits"]
    rows = [
        ("running", f"{seen['running']} of {_words('running', limits['running'])}"),
        ("queued", f"{seen['queued']} of {_words('queued', limits['queued'])}"),
        ("bytes today", f"{size_text(seen['bytes_today'])} of {_words('bytes_a_day', limits['bytes_a_day'])}"),
        ("day ends in", time_text(seen["day_ends_in_s"])),
        *((bucket["bucket"], _bucket_words(bucket)) for bucket in [*seen["requests"], *seen["starts"]]),
        ("next request", _when(seen["next_request_in_s"])),
        ("next start", _when(seen["next_start_in_s"])),
    ]
    sys.stdout.write(f"{seen['user']} in tier {seen['tier']}\n")
    for name, words in rows:
        sys.stdout.write(f"  {name:22} {words}\n")
    if seen["refusal"]:
        sys.stdout.write(f"  {seen['refusal']}\n")


def _tell_all(seen: Mapping[str, Any], tier: str | None) -> None:
    tables = {**{f"tier {name}": values for name, values in seen["tiers"].items() if tier in (None, name)}}
    if tier is None:
        tables |= {"global": seen["global"], **{f"user {name}": values for name, values in seen["users"].items()}}
    for title, values in tables.items():
        words = [f"{name} {_words(name, value)}" for name, value in values.items() if value is not None]
        sys.stdout.write(f"{title:16} {', '.join(words) or 'no limit'}\n")


def _words(name: str, value: Any) -> str:
    if value is None:
        return "no limit"
    if isinstance(value, str):
        return value
    return size_text(value) if name in SIZES else f"{value:g}"


def _bucket_words(bucket: Mapping[str, Any]) -> str:
    level = "?" if bucket["tokens"] is None else f"{bucket['tokens']:.1f}"
    return f"{level} of {bucket['burst']:g} tokens, {bucket['rate']:g} a second"


def _when(seconds: float | None) -> str:
    return "not known" if seconds is None else "now" if seconds <= 0 else f"in {time_text(seconds)}"
