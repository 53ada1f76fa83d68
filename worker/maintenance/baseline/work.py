"""A capture by the clock: measured, kept, and compared with those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker import logs
from worker.jobs.errors import Conflict, Transient
from worker.maintenance.baseline import keep
from worker.maintenance.baseline.capture import capture
from worker.maintenance.baseline.compare import HISTORY, Comparison, against, confirmed
from worker.maintenance.baseline.document import CLOCK, Capture
from worker.maintenance.report import Report
from worker.ports import JobStore, Services

#: Captures looked through for seven that were made alike.
LOOK = 4 * HISTORY

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
    faults = []
    before: Sequence[Capture] = ()
    try:
        before = history(services)
    except Transient as error:
        faults.append(str(error))
    compared = judged(seen, before, lambda: capture(services, source=CLOCK))
    faults += _kept(services, seen)
    absent = sorted(name for name, figure in seen.figures.items() if figure.absent is not None)
    worse = [each.name for each in compared.worse]
    services.metrics.regressions.set(len(worse))
    services.metrics.baseline_at.set(seen.at)
    for each in compared.worse:
        log.warning("a figure of the baseline is worse than before", figure=each.name, before=each.before, now=each.now)
    told = [f"{len(worse)} worse: {', '.join(worse)}"] if worse else []
    told += [f"{len(absent)} could not be had"] if absent else []
    figures = {"seconds": round(seen.seconds, 3), "measured": len(seen.figures) - len(absent), "regressions": len(worse)}
    details = {"capture": seen.id, "compared_with": list(compared.before), "worse": [each.document() for each in compared.worse]}
    details |= {"absent": absent, "faults": faults}
    return Report(not faults, "; ".join([f"{figures['measured']:g} figures", *told, *faults]), figures, details)


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
    """The captures before now that are kept, newest first. Raises Transient."""
    return keep.kept(keep.directory(services.settings), store or services.store, LOOK)


def _kept(services: Services, seen: Capture) -> list[str]:
    """Keep it in both places; what went wrong with either."""
    faults = []
    try:
        keep.keep_file(seen, keep.directory(services.settings))
    except Transient as error:
        faults.append(str(error))
    try:
        keep.keep_in_store(seen, services.store, services.owner)
    except Transient as error:
        faults.append(str(error))
    return faults
