"""The two works by the clock: a backup each night, and each month the proof that it can be restored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from worker import logs
from worker.failpoints import Failpoints
from worker.jobs.errors import HaulError, Transient
from worker.maintenance.backup.catalogue import NEWEST, Entry
from worker.maintenance.backup.create import create
from worker.maintenance.backup.drill import DRILL, Drilled, drill
from worker.maintenance.backup.pace import SHARE, Pace, yield_to_others
from worker.maintenance.backup.place import Place, place_of
from worker.maintenance.backup.prune import prune
from worker.maintenance.report import Report
from worker.notation.sizes import size_text
from worker.ports import Archive, Services
from worker.settings import SettingsError

log = logs.get(__name__)

LOG_EVERY_S = 30.0


def run_backup(services: Services) -> Report:
    """Make a backup, verify and copy it, and remove those that may go. What a killed run leaves the next one removes.

    Raises:
        Transient: the store went away, or somebody else works in the directory; there is no backup, and it is worth another try.
    """
    return _in_the_background(lambda: _backup(services))


def run_drill(services: Services) -> Report:
    """Restore the newest good backup into a scratch database, compare it, read it, delete it."""
    return _in_the_background(lambda: _drill(services))


def made(place: Place, entry: Entry, removed: list[str], seconds: float) -> Report:
    """The report of a backup that went well."""
    manifest = entry.manifest
    assert manifest is not None
    figures = {
        "timestamp_seconds": manifest.at,
        "seconds": round(seconds, 3),
        "bytes": manifest.stored_size,
        "plain_bytes": manifest.size,
        "jobs": manifest.jobs,
        "removed": len(removed),
    }
    words = [f"{entry.name}: {manifest.jobs} jobs, {size_text(manifest.stored_size)}, verified"]
    words += [f"copied to {place.copy.directory}"] if place.copy else []
    words += [] if manifest.key else ["not encrypted: there is no key"]
    words += [f"{len(removed)} older removed"] if removed else []
    return Report(True, "; ".join(words), figures, {"name": entry.name, "encrypted": manifest.key is not None, "removed": removed[:100]})


def drilled(done: Drilled) -> Report:
    """The report of a drill that went well."""
    figures = {
        "timestamp_seconds": time.time(),
        "seconds": done.seconds,
        "jobs": done.jobs,
        "documents": done.documents,
        "bytes": done.bytes,
    }
    words = f"{done.name}: {done.documents} documents restored, compared and read in {done.seconds:.1f} s"
    return Report(True, words, figures, {"name": done.name})


def _backup(services: Services) -> Report:
    settings, begun = services.settings, time.monotonic()
    try:
        place = place_of(settings, making=True)
        pace = _pace(place)
        with place.shelf.held():
            entry = create(settings, _archive(services), place, pace, services.failpoints)
            removed = pruned(place, pace, services.failpoints)
        return made(place, entry, removed, time.monotonic() - begun)
    except Transient:  # a service was away, or another process worked in the directory: the slot is tried again
        raise
    except (HaulError, SettingsError) as error:
        log.warning("the backup failed", error=str(error))
        return Report(False, str(error), {"seconds": round(time.monotonic() - begun, 3)})


def pruned(place: Place, pace: Pace, failpoints: Failpoints) -> list[str]:
    """What went, of both shelves; the first one has to be held."""
    removed = prune(place.shelf, place, pace, failpoints)
    if place.copy:
        with place.copy.held():
            removed += prune(place.copy, place, pace, failpoints)
    return list(dict.fromkeys(removed))


def _drill(services: Services) -> Report:
    settings, begun = services.settings, time.monotonic()
    try:
        place = place_of(settings)
        with place.shelf.held():
            entry = place.shelf.find(NEWEST)
            try:
                done = drill(entry, place.shelf, place.key, _archive(services), _pace(place), services.failpoints)
            except HaulError as error:
                with contextlib.suppress(OSError):
                    place.shelf.note(DRILL, {"ok": False, "name": entry.name, "error": str(error)})
                raise
            with contextlib.suppress(OSError):
                place.shelf.note(DRILL, {"ok": True, "name": entry.name, "seconds": done.seconds})
    except Transient:
        raise
    except (HaulError, SettingsError) as error:
        log.warning("the restore drill failed", error=str(error))
        return Report(False, str(error), {"seconds": round(time.monotonic() - begun, 3)})
    return drilled(done)


def _archive(services: Services) -> Archive:
    assert services.archive is not None, "wiring gives every process one"
    return services.archive


class NightPace(Pace):
    """Of a process that shows no progress: what is waited for is logged."""

    _logged_at = -LOG_EVERY_S

    def wait(self, why: str) -> None:
        """See `Pace.wait`."""
        if time.monotonic() - self._logged_at >= LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.warning("a backup or a drill waits for the store", why=why)


def _pace(place: Place) -> Pace:
    """Of a process that has other things to do; no bound is none at all."""
    return NightPace(place.rate, share=SHARE if place.rate else 0.0)


def _in_the_background(work: Callable[[], Report]) -> Report:
    """In a thread of its own, which gives way to all others and could not take that back."""
    with ThreadPoolExecutor(1, "backup", yield_to_others) as pool:
        return pool.submit(work).result()
