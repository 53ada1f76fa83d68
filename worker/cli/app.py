"""All commands on one page."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from worker.cli import advice, backup, bandwidth, baseline, cache, get, jobs, limits, roles, schedule, status, store, watch
from worker.cli import engines as engine_commands

# Plain help: the rich one takes three times as long to come up.
app = typer.Typer(
    name="haul",
    help="Download jobs that survive a bad night.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
engines = typer.Typer(name="engines", help="The download engines.", no_args_is_help=True, rich_markup_mode=None)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"haul {version('haul')}\n")
        raise typer.Exit


@app.callback()
def haul(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Download jobs that survive a bad night."""


app.command()(get.get)
app.command()(roles.up)
app.command()(roles.supervise)
app.command()(roles.api)
app.command()(jobs.add)
app.command(name="list")(jobs.list_jobs)
app.command()(jobs.show)
app.command()(jobs.why)
app.command()(watch.watch)
app.command()(jobs.pause)
app.command()(jobs.resume)
app.command()(jobs.cancel)
app.command()(jobs.retry)
app.command()(status.queue)
app.command()(status.health)
app.add_typer(engines)
engines.command(name="list")(status.list_engines)
engines.command()(engine_commands.drain)
engines.command()(engine_commands.undrain)
app.add_typer(limits.commands())
app.add_typer(bandwidth.commands())
app.add_typer(store.commands())
app.command()(advice.advise)
app.add_typer(advice.indexes())
app.add_typer(cache.commands())
app.add_typer(schedule.commands())
app.add_typer(baseline.commands())
app.add_typer(backup.commands())
