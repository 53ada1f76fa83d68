"""Captures by the clock: measured, kept, and compared with those of the hours, or of the days, before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from worker import logs
from worker.jobs.errors import Conflict, Transient
from worker.maintenance.baseline import keep
from worker.maintenance.baseline.capture import capture
from worker.maintenance.baseline.compare import HISTORY, Comparison, against, confirmed
from worker.maintenance.baseline.document import CLOCK, Capture
from worker.maintenance.report import Report
from worker.ports import JobStore, Services

HOUR_S = 3_600.0
#: Captures looked through for seven that were made alike.
LOOK = 4 * HISTORY

#: Keeps a capture. Raises Transient.
Place: TypeAlias = Callable[[Services, Capture], object]

log = logs.get(__name__)


def run(services: Services) -> Report:
    """Capture, keep, and compare with the median of the seven captures before; idempotent, for each is of its own time.

    It is `ok` when it measured and kept what it measured. A regression is a finding and no failure of the work: it is told in the
    details, in the log and by `haul_baseline_regressions`, which alerts go by; were it a failure the slot would be tried again, and
    an alert on failed baselines could not tell a slow disk from a baseline that no longer runs.
    """
    try:
        seen = capture(services, source=CLOCK)
    except Conflict as conflict:
        return Report(True, str(conflict))
    return _told(services, seen, lambda: history(services), (_keep_file, _keep_in_store))


def run_daily(services: Services) -> Report:
    """Keep a capture as that of the day, and compare it with the median of the seven days before.

    What becomes slower in the course of a day does so by too little for any hour to tell. The newest capture by the clock serves when it
    is of this hour; only else is there a new one. `ok` as `run` is.
    """
    try:
        seen = _of_this_hour(services) or capture(services, source=CLOCK)
    except Conflict as conflict:
        return Report(True, str(conflict))
    return _told(services, seen, lambda: keep.daily(services.store, LOOK), (_keep_daily,))


def judged(seen: Capture, before: Sequence[Capture], again: Callable[[], Capture]) -> Comparison:
    """The comparison of a capture with its history; what looks worse has to look worse in a second capture, too.

    Args:
        again: makes that one; it is not called when nothing looks worse.
    """
    first = against(seen, before)
    if not first.worse:
        return first
    try:
        return confirmed(first, against(again(), before))
    except (Conflict, Transient):
        return first


def history(services: Services, store: JobStore | None = None) -> list[Capture]:
    """The captures that are kept, newest first. Raises Transient."""
    return keep.kept(keep.directory(services.settings), store or services.store, LOOK)


def _of_this_hour(services: Services) -> Capture | None:
    since = services.clock.time() - HOUR_S
    return next((each for each in history(services) if each.source == CLOCK and each.at > since), None)


def _told(services: Services, seen: Capture, before: Callable[[], Sequence[Capture]], places: Sequence[Place]) -> Report:
    """Judge a capture by those before, keep it, and say what came of it."""
    faults: list[str] = []
    found: Sequence[Capture] = ()
    try:
        found = before()
    except Transient as error:
        faults.append(str(error))
    compared = judged(seen, found, lambda: capture(services, source=CLOCK))
    for place in places:
        try:
            place(services, seen)
        except Transient as error:
            faults.append(str(error))
    absent = sorted(name for name, figure in seen.figures.items() if figure.absent is not None)
    worse = [each.name for each in compared.worse]
    for each in compared.worse:
        log.warning("a figure of the baseline is worse than before", figure=each.name, before=each.before, now=each.now)
    told = [f"{len(worse)} worse: {', '.join(worse)}"] if worse else []
    told += [f"{len(absent)} could not be had"] if absent else []
    figures = {"seconds": round(seen.seconds, 3), "measured": len(seen.figures) - len(absent), "regressions": len(worse)}
    details = {"capture": seen.id, "compared_with": list(compared.before), "worse": [each.document() for each in compared.worse]}
    details |= {"absent": absent, "faults": faults}
    return Report(not faults, "; ".join([f"{figures['measured']:g} figures", *told, *faults]), figures, details)


def _keep_file(services: Services, seen: Capture) -> None:
    keep.keep_file(seen, keep.directory(services.settings))


def _keep_in_store(services: Services, seen: Capture) -> None:
    keep.keep_in_store(seen, services.store, services.owner)


def _keep_daily(services: Services, seen: Capture) -> None:
    keep.keep_daily(seen, services.store, services.owner)
