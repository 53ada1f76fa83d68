"""The proof that a backup can be restored: it is, away from the live records, and compared with what was written down when it was made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from worker.failpoints import Failpoints
from worker.jobs.errors import Rejected
from worker.jobs.states import State
from worker.maintenance.backup.catalogue import DAMAGED, TRYING, Entry, Shelf
from worker.maintenance.backup.faults import Damaged, NotBackedUp, Unreadable, disk
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.manifest import Manifest, differences, read_manifest
from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.restore import fill
from worker.patience import Patience
from worker.ports import Archive, JobFilter, JobStore, Load

#: What the shelf notes of the last drill.
DRILL = "drill"
#: Jobs that are read through an ordinary store: so many pages of so many. All of them were compared before, so that a first page and
#: one behind it say what there is to say; a server may take as long for a page as for the whole.
PAGES, PAGE = 2, 1000
#: Of everything else.
FEW = 100


@dataclass(frozen=True, slots=True)
class Drilled:
    """How a drill went.

    Attributes:
        seconds: from the first byte read to the last query answered.
    """

    name: str
    jobs: int
    documents: int
    bytes: int
    seconds: float


def drill(entry: Entry, shelf: Shelf, key: Key | None, archive: Archive, pace: Pace, failpoints: Failpoints) -> Drilled:
    """Restore a backup into a scratch database, compare it, read it as Haul does, and delete it; the shelf has to be held.

    Raises:
        Rejected: the key is wrong, or the backup is of another kind of store.
        Damaged, NotBackedUp: it cannot be restored, or is not what was written.
    """
    begun = time.monotonic()
    manifest = read_manifest(entry.path, key, sealed=True)
    check_kind(manifest, archive)
    with disk(shelf.directory):
        scratch = shelf.begun(TRYING, entry.name)
        try:
            with closing(archive.load(pace.spend, apart=scratch, wait=pace.wait)) as load:
                _try(entry, manifest, key, load, pace, failpoints)
        except Damaged as error:
            if not isinstance(error, Unreadable):
                (entry.path / DAMAGED).write_text(f"{error}\n", encoding="utf-8")
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    documents = sum(table.documents for table in manifest.tables)
    return Drilled(entry.name, manifest.jobs, documents, manifest.size, round(time.monotonic() - begun, 3))


def check_kind(manifest: Manifest, archive: Archive) -> None:
    """Raise Rejected when the backup is of another kind of store than the one it is to be restored to."""
    if manifest.store != archive.kind:
        fix = "restore it to a store of its own kind with --to, then `haul store migrate` copies it"
        raise Rejected("backup", f"{manifest.name} is of a store of the kind {manifest.store}, and this one is {archive.kind}", fix=fix)


def _try(entry: Entry, manifest: Manifest, key: Key | None, load: Load, pace: Pace, failpoints: Failpoints) -> None:
    fill(entry.path, manifest, key, load, pace)
    failpoints.hit("drill.loaded")
    pace.begin("comparing what was restored", manifest.size)
    if wrong := differences(manifest.tables, load.settle()):
        raise NotBackedUp(f"{entry.name} does not come back as it was: {'; '.join(wrong)}")
    pace.begin("reading what was restored")
    with closing(load.open()) as store:
        _read(store, manifest, Patience(pace.wait).tried)
    failpoints.hit("drill.read")


def _read(store: JobStore, manifest: Manifest, tried: Callable[[Callable[[], Any]], Any]) -> None:
    """Ask what doors and steps ask; what comes back has to agree with itself and with the manifest."""
    counts = tried(store.counts)
    if sum(counts.values()) != manifest.jobs:
        raise NotBackedUp(f"{manifest.name}: the restored store counts {sum(counts.values())} jobs instead of {manifest.jobs}")
    cursor = None
    for _ in range(PAGES):
        page = tried(lambda: store.page(JobFilter(), PAGE, cursor))
        known = tried(lambda: store.get(job.id for job in page.jobs))  # noqa: B023 - as above
        if [known.get(job.id) for job in page.jobs] != list(page.jobs):
            raise NotBackedUp(f"{manifest.name}: jobs of the restored store are not found again by their ids")
        if (cursor := page.cursor) is None:
            break
    for state in State:
        if bool(tried(partial(store.in_state, state, 1))) != bool(counts.get(state)):
            raise NotBackedUp(f"{manifest.name}: the restored store contradicts itself about jobs that are {state}")
    for ask in (partial(store.unsent, FEW), store.engine_states, store.limits, partial(store.runs, None, FEW)):
        tried(ask)
