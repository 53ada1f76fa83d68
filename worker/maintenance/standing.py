"""How each work by the clock stands: next, last, missed; from the ledger, so whichever process is asked says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.maintenance.past import Past, figures_of, moment_of, result_of, seconds_of
from worker.maintenance.schedule import plan, slot_time
from worker.maintenance.timetable import LINES, Timetable
from worker.metrics import Metrics
from worker.ports import Run, Services

#: A slot that is due is taken within a minute, unless workers are very busy.
LATE_S = 900.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One work.

    Attributes:
        next_at: wall clock.
        last: the last line of the ledger that is a run or a miss, and has ended; `success` the last that went well.
        running: a run that has not ended.
        missed: among the last lines of the ledger.
        overdue: a slot is due and nobody has taken it for `LATE_S`, though its lane is free, or it was missed.
    """

    name: str
    cron: str
    window_s: float
    next_at: float | None
    last: Run | None
    success: Run | None
    running: Run | None
    missed: int
    overdue: bool

    @property
    def ok(self) -> bool:
        """Nothing about it is to be looked at by a person."""
        return not self.overdue and (self.last is None or bool(self.last.ok))

    @property
    def trouble(self) -> str | None:
        """What is wrong, in words."""
        if self.ok:
            return None
        if self.last is not None and not self.last.ok:
            return f"{result_of(self.last)}: {self.last.report.get('summary', '')}"
        return "overdue: nobody has taken what is due; see that beat and a worker run"

    def view(self) -> dict[str, Any]:
        """For `--json`."""
        last = self.last
        return {
            "name": self.name,
            "cron": self.cron,
            "window_s": self.window_s,
            "next_at": self.next_at,
            "ok": self.ok,
            "overdue": self.overdue,
            "missed": self.missed,
            "running_since": self.running.started_at if self.running else None,
            "last_success_at": moment_of(self.success) if self.success else None,
            "last": last
            and {
                "slot": last.slot,
                "started_at": last.started_at,
                "seconds": seconds_of(last),
                "result": result_of(last),
                "report": dict(last.report),
            },
        }


def standings(services: Services, timetable: Timetable) -> list[Standing]:
    """Every work that there is, in the order of the schedule. Raises Transient when the store does not answer."""
    now, store_now = services.clock.time(), services.store.now()
    seen = services.store.latest_runs([name for name in timetable.entries if name in timetable.works], LINES)
    busy = {timetable.entries[name].lane for name, lines in seen.items() for line in lines if line.ended_at is None}
    found = []
    for name, lines in seen.items():
        entry = timetable.entries[name]
        past = Past.of(lines)
        planned = plan(entry, lines, now, store_now, all_lines=len(lines) < LINES)
        due = slot_time(planned.due) if planned.due and "#" not in planned.due else None
        found.append(
            Standing(
                name=entry.name,
                cron=entry.cron,
                window_s=entry.window_s,
                next_at=entry.next(now),
                last=past.last,
                success=past.success,
                running=next((line for line in lines if line.ended_at is None), None),
                missed=sum(bool(line.report.get("missed")) for line in past.ended),
                overdue=bool(planned.missed) or (due is not None and now - due > LATE_S and entry.lane not in busy),
            )
        )
    return found


class LedgerFigures:
    """The ledger's metrics in this process; a counter counts each line once, those that were there when it began to look as well."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted: Mapping[str, frozenset[str]] = {}

    def set(self, seen: Mapping[str, Sequence[Run]]) -> None:
        """Show these lines of the works (`JobStore.latest_runs`)."""
        metrics = self._metrics
        for name, lines in seen.items():
            past, known = Past.of(lines), self._counted.get(name, frozenset())
            for line in past.ended:
                if line.slot not in known:
                    metrics.maintenance_runs.labels(name, result_of(line)).inc()
            self._counted = {**self._counted, name: frozenset(line.slot for line in past.ended)}
            if past.last:
                metrics.maintenance_ok.labels(name).set(int(bool(past.last.ok)))
            if past.success:
                metrics.maintenance_success.labels(name).set(moment_of(past.success))
                metrics.maintenance_seconds.labels(name).set(seconds_of(past.success) or 0.0)
            if (regressions := figures_of(past.last).get("regressions")) is not None:
                metrics.regressions.labels(name).set(regressions)
