"""Which backups may go, and their removal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from worker.failpoints import Failpoints
from worker.jobs.errors import HaulError
from worker.maintenance.backup.catalogue import Entry, Shelf
from worker.maintenance.backup.create import LAST
from worker.maintenance.backup.faults import NotBackedUp, disk
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.place import Place
from worker.maintenance.backup.verify import verify_stored
from worker.notation.keep import Keep


@dataclass(frozen=True, slots=True)
class Old:
    """What the decision needs of a backup."""

    name: str
    at: float
    good: bool


def doomed(backups: Sequence[Old], keep: Keep, zone: str) -> list[str]:
    """The backups that may go, oldest first.

    Of each of the last days, weeks and months that have a good backup the newest good one stays, so many as `keep` says: a system
    that made none for a year loses none. One that is not good stays until there is a newer good one, and stands for nothing.
    """
    good = sorted((backup for backup in backups if backup.good), key=lambda backup: (backup.at, backup.name), reverse=True)
    if not good:
        return []
    kept = {good[0].name}
    for count, span in ((keep.daily, _day), (keep.weekly, _week), (keep.monthly, _month)):
        kept |= _newest_of(good, count, span, ZoneInfo(zone))
    kept |= {backup.name for backup in backups if not backup.good and backup.at >= good[0].at}
    return [backup.name for backup in sorted(backups, key=lambda backup: (backup.at, backup.name)) if backup.name not in kept]


def prune(shelf: Shelf, place: Place, pace: Pace, failpoints: Failpoints, *, dry_run: bool = False) -> list[str]:
    """Remove what may go from a shelf of this place that is held; the names of what went, or with `dry_run` would go.

    Nothing goes while the last try to make a backup failed, nor before the newest good one was compared with its hashes.
    Left alone is what cannot be read here or is of another version, for it may be as good as any; and what has another key than ours:
    it may be another installation's, whose newest we know nothing of.

    Raises:
        NotBackedUp: nothing was removed, and why.
    """
    entries = [entry for entry in shelf.entries() if entry.known and _is_ours(entry, place.key)]
    names = doomed([Old(entry.name, entry.at, entry.good) for entry in entries], place.keep, place.zone)
    if not names:
        return []
    last = place.shelf.noted(LAST)  # a shelf of copies has no notes
    if not last.get("ok", True):
        raise NotBackedUp(f"nothing is removed, because the last backup failed: {last.get('error')}")
    newest = next(entry for entry in entries if entry.good)
    try:
        verify_stored(newest.path, pace)
    except HaulError as error:
        raise NotBackedUp(f"nothing is removed, because the newest backup {newest.name} is no good: {error}") from None
    for name in names if not dry_run else ():
        with disk(shelf.directory):
            gone = shelf.hidden(name)
            failpoints.hit("prune.hidden")
            shutil.rmtree(gone)
        failpoints.hit("prune.removed")
    return names


def _is_ours(entry: Entry, key: Key | None) -> bool:
    """As far as keys tell, which each installation makes for itself unless it is given one."""
    made_with = entry.manifest.key if entry.manifest else None
    return made_with is None or (key is not None and made_with == key.id)


def _newest_of(good: Sequence[Old], count: int, span: Callable[[date], tuple[int, ...]], zone: ZoneInfo) -> set[str]:
    """Of each of the newest `count` spans the newest; `good` is sorted so."""
    found: dict[tuple[int, ...], str] = {}
    for backup in good:
        found.setdefault(span(datetime.fromtimestamp(backup.at, zone).date()), backup.name)
    return set(list(found.values())[:count])


def _day(day: date) -> tuple[int, ...]:
    return (day.toordinal(),)


def _week(day: date) -> tuple[int, ...]:
    return day.isocalendar()[:2]


def _month(day: date) -> tuple[int, ...]:
    return (day.year, day.month)
