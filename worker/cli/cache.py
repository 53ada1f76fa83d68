"""The commands on the cache: what is in it, to fill it with what is asked most, and to forget all of it."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from worker.cli import options
from worker.cli.output import Exit, print_json
from worker.notation.sizes import size_text

if TYPE_CHECKING:
    from worker.ports import CacheStats

#: For Redis to take it.
CLEAR_S = 5.0
#: The hit rate that is shown is that of so long.
RATE_S = 300.0
HOTTEST_SHOWN = 10


def commands() -> typer.Typer:
    """The group `haul cache`."""
    group = typer.Typer(name="cache", help="What is kept of reads that repeat.", no_args_is_help=True, rich_markup_mode=None)
    group.command(name="stats")(stats)
    group.command(name="warm")(warm)
    group.command(name="clear")(clear)
    return group


def stats(as_json: options.Json = False) -> None:
    """Show what the processes share in Redis, the hit rate of the last minutes, and what is asked for most.

    What each process keeps and finds is in its metrics (haul_cache_*).

    Example: haul cache stats
    """
    from worker.cli.connect import connected

    with connected() as services:
        seen, hottest = services.cache.stats(), services.cache.hottest(HOTTEST_SHOWN)
        asked = services.cache.asked(time.time() - RATE_S, time.time() + 60)  # with the minute that is not over
    if as_json:
        shared = {name: value for name, value in asdict(seen).items() if name.startswith("shared")}
        hot = [{"kind": each.kind, "again": list(each.again), "count": each.count} for each in hottest]
        print_json({**shared, "reads": asked.reads, "hit_rate": asked.rate, "hottest": hot})
        return
    sys.stdout.write(_line(seen) + "\n")
    if asked.rate is not None:
        sys.stdout.write(f"{asked.rate:.0%} of {asked.reads} reads were found, in the last {RATE_S / 60:.0f} minutes\n")
    for each in hottest:
        named = " ".join(str(part) for part in each.again if part is not None)
        sys.stdout.write(f"  asked most   {each.kind:10} {named}\n")


def warm(as_json: options.Json = False) -> None:
    """Read what is asked for most, gently, for half a minute at most, and have every API process do so.

    Example: haul cache warm
    """
    from rich.console import Console

    from worker.cli.connect import connected
    from worker.maintenance import warming

    with connected() as services:
        with Console(stderr=True).status("reading what is asked for most"):
            report = warming.run(services)
        services.cache.flush(CLEAR_S)
    if as_json:
        print_json({"ok": report.ok, **report.document()})
    else:
        sys.stdout.write(report.summary + "\n")
    raise typer.Exit(Exit.OK if report.ok else Exit.UNREACHABLE)


def clear(as_json: options.Json = False) -> None:
    """Forget everything that is cached, in every process; it is read anew from the records.

    Example: haul cache clear
    """
    from worker.cli.connect import connected
    from worker.jobs.errors import Transient

    with connected() as services:
        services.cache.clear()
        if not services.cache.flush(CLEAR_S):
            raise Transient("redis", "did not take it; what is cached ends by itself within seconds")
    if as_json:
        print_json({"cleared": True})
    else:
        sys.stdout.write("cleared\n")


def _line(seen: CacheStats) -> str:
    if seen.shared_entries is None:
        return "Redis does not answer"
    if seen.shared_bytes_max is None:
        return "on a server of its own, which evicts by itself; it is off where HAUL_CACHE_BYTES is 0"
    return f"{seen.shared_entries} entries, {size_text(seen.shared_bytes)} of {size_text(seen.shared_bytes_max)}"
