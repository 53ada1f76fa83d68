"""One restore from the command line: what it would do, who is kept away meanwhile, and what is kept of what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from worker.cli.addresses import Address
from worker.jobs.errors import HaulError, Rejected
from worker.notation.sizes import size_text

if TYPE_CHECKING:
    from worker.cli.bar import Bar
    from worker.maintenance.backup.catalogue import Entry
    from worker.ports import Archive
    from worker.settings import Settings


class Restoring:
    """One restore.

    Args:
        only: collections; all when empty.
        to: another store than that of the settings.

    Raises:
        Rejected: a collection is unknown, or the store is of another kind.
    """

    def __init__(self, settings: Settings, entry: Entry, only: Sequence[str], to: str | None, *, force: bool) -> None:
        from worker.maintenance.backup.drill import check_kind
        from worker.maintenance.backup.key import read_key
        from worker.maintenance.backup.manifest import read_manifest
        from worker.maintenance.backup.restore import chosen
        from worker.store import open_archive

        self._settings, self._entry, self._only, self._force = settings, entry, tuple(only), force
        self._own = to is None
        self._address = Address.of("to", to) if to else Address("to", settings.store_address, "")
        self._archive: Archive = open_archive(self._address.url, settings.profile)
        self._key = read_key(settings)
        self._manifest = read_manifest(entry.path, self._key, sealed=True)
        check_kind(self._manifest, self._archive)
        self._tables = chosen(self._manifest, only)
        self._there = self._archive.documents()

    def plan(self) -> dict[str, Any]:
        """What would be done."""
        return {
            "name": self._entry.name,
            "to": self._address.shown,
            "jobs_there": self._there,
            "needs_force": self._there != 0,
            "collections": {table.name: table.documents for table in self._tables},
            "files": self._own and not self._only,
        }

    def words(self, plan: Mapping[str, Any]) -> str:
        """The plan for people."""
        lines = [f"{name:12} {count}" for name, count in plan["collections"].items()]
        there = "no jobs" if self._there == 0 else f"{self._there} jobs" if self._there else "records that cannot be read"
        lines.append(f"would be restored from {plan['name']} ({size_text(self._manifest.size)}) to {plan['to']}, which has {there} now")
        again = "--force --yes" if plan["needs_force"] else "--yes"
        return "\n".join([*lines, f"nothing was changed; do it with {again}"]) + "\n"

    def run(self, bar: Bar) -> dict[str, Any]:
        """Restore.

        Raises:
            Rejected: there are jobs already and no `force`, or somebody works on the store.
            Damaged, NotBackedUp: nothing was changed; or, of the files of engines alone, not all of them were written.
        """
        from worker.cli.lock import held
        from worker.failpoints import Failpoints
        from worker.maintenance.backup.pace import Pace
        from worker.maintenance.backup.restore import restore
        from worker.patience import Patience

        if self._there != 0 and not self._force:
            what = f"there are {self._there} jobs already" if self._there else "there are records already that cannot be read"
            raise Rejected("to", f"{what} in {self._address.shown}", fix="--force puts the backup in their place, and keeps them")
        settings, safe = self._settings, None
        directories = {self._address.path.resolve().parent} if self._address.path else set()
        directories |= {settings.data_dir.resolve()} if self._own else set()
        with ExitStack() as stack:
            for directory in sorted(directories):
                stack.enter_context(held(directory))
            custody = stack.enter_context(ExitStack())
            keep = self._guarded(custody)
            if self._there and not self._archive.keeps_aside:
                safe = self._saved(bar)

            guarding = [keep]

            def ready() -> None:
                guarding.clear()
                custody.close()

            def turn(doing: str, done: int, total: int) -> None:
                for each in guarding:  # the leases are of the same server, which may be away for a while
                    Patience(lambda why: bar.show(f"{doing} ({why})", done, total)).tried(each)
                bar.show(doing, done, total)

            done = restore(
                self._entry.path,
                self._key,
                self._archive,
                Pace(0, turn),
                Failpoints(settings.failpoint),
                only=self._only,
                data_dir=settings.data_dir if self._own else None,
                replace_files=self._force,
                ready=ready,
            )
        return {"kept": str(done.kept) if done.kept else None, "safe_copy": safe, "files_written": list(done.files)}

    def words_of(self, done: Mapping[str, Any]) -> str:
        """What was done, for people."""
        jobs = sum(table.documents for table in self._tables if table.name == "jobs")
        lines = [f"restored {self._entry.name}: {jobs} jobs, compared with the backup"]
        lines += [f"what was there before is {done['kept']}"] if done["kept"] else []
        lines += [f"what was there before is the backup {done['safe_copy']}"] if done["safe_copy"] else []
        lines += [f"wrote {path}" for path in done["files_written"]]
        lines += ["now start Haul: it finds out what its engines have, and goes on"] if self._own else []
        return "\n".join(lines) + "\n"

    def _guarded(self, stack: ExitStack) -> Any:
        """Hold the leases of the store that is to be replaced; what to call now and then to keep them."""
        from worker.cli.custody import Custody, engine_names

        if not self._there:  # nothing is there, or nothing that can be opened
            return lambda: None
        try:
            store = stack.enter_context(closing(self._address.open(self._settings)))
        except HaulError:
            return lambda: None
        custody = stack.enter_context(Custody({"to": store}))
        custody.take(engine_names(self._settings) | set(store.engine_states()))
        return custody.keep

    def _saved(self, bar: Bar) -> str:
        """The name of a backup of what is there now."""
        from worker.failpoints import Failpoints
        from worker.maintenance.backup.create import create
        from worker.maintenance.backup.pace import Pace
        from worker.maintenance.backup.place import place_of

        place = place_of(self._settings, making=True)
        with place.shelf.held():
            made = create(self._settings, self._archive, place, Pace(0, bar.show), Failpoints(""))
        return made.name
