"""The commands on the store itself: `haul store migrate`."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import Exit, note, print_json

if TYPE_CHECKING:
    from worker.cli.addresses import Address
    from worker.cli.bar import Bar
    from worker.settings import Settings
    from worker.store.comparison import Comparison

From = Annotated[str | None, typer.Argument(metavar="FROM", help="The store to copy; this machine's SQLite file when left out.")]
To = Annotated[str | None, typer.Argument(metavar="TO", help="The store to fill; HAUL_STORE_URL when left out.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Compare the two, say what would be copied, write nothing.")]


def commands() -> typer.Typer:
    """The group `haul store`."""
    group = typer.Typer(name="store", help="The records.", no_args_is_help=True, rich_markup_mode=None)
    group.callback()(lambda: None)
    group.command()(migrate)
    return group


def migrate(source: From = None, target: To = None, dry_run: DryRun = False, as_json: options.Json = False) -> None:
    """Copy all records of one store into another: jobs as they are, .torrent files, runs. Then read both again and compare.

    FROM and TO are written as in HAUL_STORE_URL, or as @FILE for a file that holds the address, so that no password
    shows in the list of processes.

    Stop Haul on both first. The command holds the data directory of an SQLite file and, in both stores, the leases of
    admission and of every engine: it refuses a store whose leases somebody holds, and no supervisor acts before it
    ends. Doors and finishing steps need no lease; what they write meanwhile is found by the comparison at the end.
    Requests of bots that no worker has taken in yet are in Redis, not in a store: see that `haul queue` shows none.

    FROM keeps all it has. TO has to be empty, or hold a part of FROM: that part is skipped, so after a Ctrl-C or a kill
    the same command goes on. Nothing in TO is overwritten: a job that is another there is named, and the exit code is 1.

    Example: haul store migrate sqlite:////data/haul.db @/run/secrets/store_url
    """
    from worker.cli.bar import Bar
    from worker.jobs.errors import Transient
    from worker.settings import load

    settings = load()
    one, other = _addresses(settings, source, target)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends the command as Ctrl-C does
    bar = Bar(silent=as_json)
    try:
        comparison = (_compared if dry_run else _migrated)(settings, one, other, bar)
    except KeyboardInterrupt:
        _tell_how_to_go_on(bar, as_json)
        raise typer.Exit(Exit.INTERRUPTED) from None
    except Transient:
        _tell_how_to_go_on(bar, as_json)
        raise
    if as_json:
        print_json(_view(one, other, comparison, dry_run))
    else:
        _tell(other, comparison, dry_run)


def _addresses(settings: Settings, source: str | None, target: str | None) -> tuple[Address, Address]:
    """Where from and where to.

    Raises:
        Rejected: there is nothing to copy, it is not said where to, or the two are one.
    """
    from worker.cli.addresses import VARIABLE, Address
    from worker.jobs.errors import Rejected
    from worker.store import SQLITE

    one = Address.of("from", source or f"{SQLITE}{settings.data_dir / 'haul.db'}")
    if target is None and not settings.store_url.get_secret_value():
        raise Rejected("to", "there is no store to copy to", fix=f"name it, or set {VARIABLE}")
    other = Address.of("to", target) if target else Address("to", settings.store_address, f"{VARIABLE} as it is")
    if one.path and not one.path.is_file():
        raise Rejected("from", f"there is no store at {one.path}", fix="name the store to copy")
    if one.url == other.url or (one.path and other.path and one.path.resolve() == other.path.resolve()):
        raise Rejected("to", "is the store to copy from", fix="name another one")
    return one, other


def _compared(settings: Settings, one: Address, other: Address, bar: Bar) -> Comparison:
    """A comparison that writes no record and makes no file."""
    from worker.store.migrate import compare

    with ExitStack() as stack:
        source = stack.enter_context(closing(one.open(settings)))
        new = other.path is not None and not other.path.exists()
        target = None if new else stack.enter_context(closing(other.open(settings)))
        stack.enter_context(bar)
        comparison = compare(source, target, bar.show)
    comparison.check_extendable()
    return comparison


def _migrated(settings: Settings, one: Address, other: Address, bar: Bar) -> Comparison:
    """Fill the target; the comparison it was filled by, once another one has found both equal."""
    from worker.cli.custody import Custody, engine_names
    from worker.cli.lock import held
    from worker.failpoints import Failpoints
    from worker.store.migrate import compare, copy

    directories = {address.path.resolve().parent for address in (one, other) if address.path}
    if settings.needs_stack and settings.store_address in (one.url, other.url):
        directories.add(settings.data_dir.resolve())
    with ExitStack() as stack:
        for directory in sorted(directories):
            stack.enter_context(held(directory))
        stores = {address.word: stack.enter_context(closing(address.open(settings))) for address in (one, other)}
        custody = stack.enter_context(Custody(stores))
        custody.take(engine_names(settings))
        stack.enter_context(bar)

        def turn(doing: str, done: int, total: int) -> None:
            custody.keep()
            bar.show(doing, done, total)

        source, target = stores["from"], stores["to"]
        comparison = compare(source, target, turn)
        comparison.check_extendable()
        custody.take(comparison.engines)
        copy(source, target, comparison, turn, Failpoints(settings.failpoint))
        compare(source, target, turn).check_equal()
    return comparison


def _tell_how_to_go_on(bar: Bar, as_json: bool) -> None:
    if not as_json:
        note(f"stopped ({bar.last or 'not begun'}); what was copied stays, and the same command goes on")


def _view(one: Address, other: Address, comparison: Comparison, dry_run: bool) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "from": one.shown,
        "to": other.shown,
        "dry_run": dry_run,
        "jobs": dict(comparison.states),
        "torrents": comparison.torrents,
        "runs": comparison.runs,
        "to_copy" if dry_run else "copied": {
            "jobs": len(comparison.missing),
            "torrents": len(comparison.missing_torrents),
            "runs": len(comparison.missing_runs),
        },
        "sha256": comparison.source_digest,
    }


def _tell(other: Address, comparison: Comparison, dry_run: bool) -> None:
    for state, count in comparison.states.items():
        sys.stdout.write(f"{state:12} {count}\n")
    lacked = f"{len(comparison.missing)} jobs, {len(comparison.missing_torrents)} torrents and {len(comparison.missing_runs)} runs"
    if comparison.lost_torrents:
        note(f"{comparison.lost_torrents} .torrent files are in neither of the two")
    if dry_run:
        sys.stdout.write(f"to copy: {lacked}; {comparison.equal} jobs are there already\n")
        return
    sys.stdout.write(f"copied: {lacked}; {comparison.equal} jobs were there already\n")
    sys.stdout.write(f"equal: {comparison.jobs} jobs, {comparison.torrents} torrents and {comparison.runs} runs in both, ")
    sys.stdout.write(f"SHA-256 {comparison.source_digest}\n")
    sys.stdout.write(f"now set {other.setting}\n")
