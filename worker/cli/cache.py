"""The commands on the cache: what is in it, and to forget all of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from worker.cli import options
from worker.cli.output import print_json
from worker.sizes import size_text

if TYPE_CHECKING:
    from worker.ports import CacheStats

#: For Redis to take it.
CLEAR_S = 5.0


def commands() -> typer.Typer:
    """The group `haul cache`."""
    group = typer.Typer(name="cache", help="What is kept of reads that repeat.", no_args_is_help=True, rich_markup_mode=None)
    group.command(name="stats")(stats)
    group.command(name="clear")(clear)
    return group


def stats(as_json: options.Json = False) -> None:
    """Show what the processes share in Redis; what each of them keeps and finds is in its metrics (haul_cache_*).

    Example: haul cache stats
    """
    from worker.cli.connect import connected

    with connected() as services:
        seen = services.cache.stats()
    if as_json:
        print_json({name: value for name, value in asdict(seen).items() if name.startswith("shared")})
    else:
        sys.stdout.write(_line(seen) + "\n")


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
