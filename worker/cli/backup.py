"""`haul backup`: make, list, verify, restore, try and remove backups."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import Exit, note, print_json
from worker.notation.sizes import size_text

if TYPE_CHECKING:
    from worker.cli.bar import Bar
    from worker.maintenance.backup.catalogue import Entry

Name = Annotated[str, typer.Argument(metavar="NAME", help="A backup, as `haul backup list` names it; the newest good one when left out.")]
From = Annotated[Path | None, typer.Option("--from", metavar="DIR", help="The directory of backups; HAUL_BACKUP_DIR when left out.")]
All = Annotated[bool, typer.Option("--all", help="Every backup there is.")]
Only = Annotated[str, typer.Option("--only", metavar="NAMES", help="These collections alone, with commas, as jobs,runs; no files.")]
To = Annotated[str | None, typer.Option("--to", metavar="STORE", help="Another store, as in HAUL_STORE_URL or @FILE; no files.")]
Unpack = Annotated[Path | None, typer.Option("--unpack", metavar="DIR", help="Write plain files there, as mongodump does; touch no store.")]
Force = Annotated[bool, typer.Option("--force", help="Though there are records already; these are kept, see below.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this only say what would be done.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")]


def commands() -> typer.Typer:
    """The group `haul backup`."""
    group = typer.Typer(name="backup", help="Backups of the records.", no_args_is_help=True, rich_markup_mode=None)
    group.command()(create)
    group.command(name="list")(list_backups)
    group.command()(verify)
    group.command()(restore)
    group.command()(drill)
    group.command()(prune)
    return group


def create(as_json: options.Json = False) -> None:
    """Make a backup now, while everything runs: compressed, encrypted, read back, copied when HAUL_BACKUP_COPY_DIR is set.

    Example: haul backup create
    """
    from worker.cli.by_hand import recorded
    from worker.failpoints import Failpoints
    from worker.maintenance.backup.create import create as make
    from worker.maintenance.backup.pace import Pace, yield_to_others
    from worker.maintenance.backup.place import place_of
    from worker.maintenance.backup.standing import BACKUP, advice
    from worker.maintenance.backup.work import made
    from worker.settings import load
    from worker.store import open_archive

    settings = load()
    archive = open_archive(settings.store_address, settings.profile)
    place = place_of(settings, making=True)
    with _bar(as_json) as bar, recorded(settings, BACKUP) as tell, place.shelf.held():
        yield_to_others()
        begun = time.monotonic()
        entry = make(settings, archive, place, Pace(place.rate, bar.show), Failpoints(settings.failpoint))
        report = tell(made(place, entry, [], time.monotonic() - begun))
    if as_json:
        print_json(_view(entry) | {"path": str(entry.path), "copy": str(place.copy.directory) if place.copy else None})
        return
    sys.stdout.write(f"{entry.path}\n{report.summary}\n")
    if advised := advice(settings):
        note(advised)


def list_backups(source: From = None, as_json: options.Json = False) -> None:
    """List the backups, newest first, with what each holds; needs no key.

    Example: haul backup list
    """
    shelf = _shelf(source)
    entries = shelf.entries()
    if as_json:
        print_json({"directory": str(shelf.directory), "backups": [_view(entry) for entry in entries]})
        return
    for entry in entries:
        sys.stdout.write(_line(entry) + "\n")
    if not entries:
        note(f"there is no backup in {shelf.directory}")


def verify(name: Name = "latest", every: All = False, source: From = None, as_json: options.Json = False) -> None:
    """Read a backup to its end, decrypt it, and compare every part with its hash; exit code 1 when one is not as it was written.

    Example: haul backup verify --all
    """
    from worker.jobs.errors import Failed
    from worker.maintenance.backup.key import read_key
    from worker.maintenance.backup.pace import Pace, yield_to_others
    from worker.maintenance.backup.verify import judge
    from worker.settings import load

    settings, shelf = load(), _shelf(source)
    entries = shelf.entries() if every else [shelf.find(name)]
    results: list[dict[str, Any]] = []
    with _bar(as_json) as bar:
        yield_to_others()
        for entry in entries:
            fault = None
            try:
                judge(entry, read_key(settings), Pace(settings.backup_rate, bar.show))
            except Failed as error:
                fault = str(error)
            results.append({"name": entry.name, "ok": fault is None, "error": fault})
    if as_json:
        print_json({"backups": results})
    for result in results if not as_json else ():
        sys.stdout.write(f"{result['name']:20} {'good' if result['ok'] else 'DAMAGED: ' + str(result['error'])}\n")
    raise typer.Exit(Exit.OK if all(result["ok"] for result in results) else Exit.FAILED)


def restore(
    name: Name = "latest",
    only: Only = "",
    to: To = None,
    unpack: Unpack = None,
    source: From = None,
    force: Force = False,
    yes: Yes = False,
    as_json: options.Json = False,
) -> None:
    """Put a backup back; without --yes only say what would be done. Stop Haul first.

    All of it is loaded beside the live records and compared with the backup's hashes before any of these changes. Where there
    are jobs already it needs --force, and what was there is kept: an SQLite file under another name, a MongoDB as a backup.
    What the embedded engines knew of their downloads comes back where they know nothing; settings, tiers and the list of
    engines are written to <data>/restored for you to look at. Then start Haul: it finds out what its engines have, and goes on.

    Example: haul backup restore latest --yes
    """
    from worker.cli.restoring import Restoring
    from worker.maintenance.backup.key import read_key
    from worker.maintenance.backup.pace import Pace
    from worker.maintenance.backup.restore import unpack as write_plain
    from worker.settings import load

    settings = load()
    entry = _shelf(source).find(name)
    if unpack is not None:
        with _bar(as_json) as bar:
            written = write_plain(entry.path, read_key(settings), unpack.expanduser().absolute(), Pace(0, bar.show))
        print_json({"name": entry.name, "files": written}) if as_json else sys.stdout.write("".join(f"{path}\n" for path in written))
        return
    work = Restoring(settings, entry, [part.strip() for part in only.split(",") if part.strip()], to, force=force)
    plan = work.plan()
    if not yes:
        print_json(plan | {"dry_run": True}) if as_json else sys.stdout.write(work.words(plan))
        return
    with _bar(as_json) as bar:
        done = work.run(bar)
    print_json(plan | done | {"dry_run": False}) if as_json else sys.stdout.write(work.words_of(done))


def drill(name: Name = "latest", as_json: options.Json = False) -> None:
    """Restore a backup into a scratch database, compare counts, indexes and contents, read it as Haul does, and delete it.

    Example: haul backup drill
    """
    from worker.cli.by_hand import recorded
    from worker.failpoints import Failpoints
    from worker.maintenance.backup.drill import drill as attempt
    from worker.maintenance.backup.pace import Pace, yield_to_others
    from worker.maintenance.backup.place import place_of
    from worker.maintenance.backup.standing import DRILL
    from worker.maintenance.backup.work import drilled
    from worker.settings import load
    from worker.store import open_archive

    settings = load()
    archive, place = open_archive(settings.store_address, settings.profile), place_of(settings)
    with _bar(as_json) as bar, place.shelf.held(), recorded(settings, DRILL) as tell:
        yield_to_others()
        entry, pace = place.shelf.find(name), Pace(place.rate, bar.show)
        report = tell(drilled(attempt(entry, place.shelf, place.key, archive, pace, Failpoints(settings.failpoint))))
    print_json({"ok": report.ok, **report.document()}) if as_json else sys.stdout.write(f"{report.summary}\n")


def prune(dry_run: DryRun = False, yes: Yes = False, as_json: options.Json = False) -> None:
    """Remove the backups that HAUL_BACKUP_KEEP does not keep, here and in HAUL_BACKUP_COPY_DIR; the newest good one always stays.

    Nothing is removed while the last backup failed, or when the newest one is no good.

    Example: haul backup prune --dry-run
    """
    from worker.failpoints import Failpoints
    from worker.maintenance.backup import prune as pruning
    from worker.maintenance.backup.pace import Pace
    from worker.maintenance.backup.place import place_of
    from worker.settings import load

    settings = load()
    place, failpoints = place_of(settings), Failpoints(settings.failpoint)
    gone: dict[str, list[str]] = {}
    with _bar(as_json) as bar:
        for shelf in (place.shelf, place.copy):
            if shelf is not None and shelf.directory.is_dir():
                with shelf.held():
                    pace = Pace(place.rate, bar.show)
                    names = pruning.prune(shelf, place, pace, failpoints, dry_run=True)
                    if names and not dry_run:
                        if not yes:
                            typer.confirm(f"Remove {', '.join(names)} from {shelf.directory}?", abort=True, err=True)
                        pruning.prune(shelf, place, pace, failpoints)
                    gone[str(shelf.directory)] = names
    if as_json:
        print_json({"dry_run": dry_run, "removed": gone})
        return
    for directory, names in gone.items():
        for name in names:
            sys.stdout.write(f"{'would remove' if dry_run else 'removed'} {directory}/{name}\n")
    if not any(gone.values()):
        note(f"nothing to remove: {place.keep} are kept")


def _shelf(source: Path | None) -> Any:
    from worker.maintenance.backup.catalogue import Shelf
    from worker.settings import load

    settings = load()
    return Shelf(source.expanduser().absolute() if source else settings.backup_dir or settings.data_dir / "backups")


@contextmanager
def _bar(as_json: bool) -> Iterator[Bar]:
    """Progress; Ctrl-C and SIGTERM end the work, which then leaves nothing behind."""
    from worker.cli.bar import Bar

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bar = Bar(silent=as_json, shown=size_text)
    try:
        with bar:
            yield bar
    except KeyboardInterrupt:
        if not as_json:
            note(f"stopped ({bar.last or 'not begun'}); nothing of it is left")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _view(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest
    found: dict[str, Any] = {"name": entry.name, "at": entry.at, "good": entry.good, "error": entry.damaged}
    if manifest:
        found |= {"store": manifest.store, "jobs": manifest.jobs, "bytes": manifest.stored_size, "plain_bytes": manifest.size}
        found |= {"seconds": manifest.seconds, "key": manifest.key, "consistent": manifest.consistent, "sha256": manifest.sha256}
        found["collections"] = {table.name: table.documents for table in manifest.tables}
    return found


def _line(entry: Entry) -> str:
    manifest = entry.manifest
    if not entry.good or manifest is None:
        return f"{entry.name:20} {'DAMAGED' if entry.known else 'NOT KNOWN'}: {entry.damaged}"
    locked = f"key {manifest.key}" if manifest.key else "not encrypted"
    return f"{entry.name:20} good  {manifest.store:8} {manifest.jobs} jobs  {size_text(manifest.stored_size)}  {locked}"
