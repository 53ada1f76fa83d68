"""What is done by the clock: a line a work, under the name that `beat_schedule.CLOCK` has for it.

A work is idempotent, bounded in time and memory, may be killed at any point, and clears up after a predecessor that was. It knows
nothing of slots, lanes and the ledger: `timetable` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from worker.maintenance import baseline, engines, indexes, retention, warming
from worker.maintenance.backup import run_backup, run_drill
from worker.maintenance.report import Report
from worker.ports import Services

Work = Callable[[Services], Report]

WORKS: Mapping[str, Work] = {
    "backup": run_backup,
    "baseline": baseline.run,
    "baseline-daily": baseline.run_daily,
    "drill": run_drill,
    "engines": engines.run,
    "indexes": indexes.run,
    "retention": retention.run,
    "warm": warming.run,
}

#: Works that can tell what they would do, and do nothing.
REHEARSALS: Mapping[str, Work] = {"retention": retention.rehearse}
