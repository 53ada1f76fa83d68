"""Runs what is due, once a slot: what was missed is caught up inside its window or written down, and what died is begun again.

The ledger in the store decides. A slot is taken by one write that only one process can make, under the lease of its lane, so a run that
has not ended and whose lane is free is one whose process died.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker import logs
from worker.jobs.errors import HaulError, Transient
from worker.maintenance.lane import lane
from worker.maintenance.report import Report
from worker.maintenance.schedule import BORN, Entry, Plan, entries, is_birth, plan, slot_name
from worker.maintenance.works import REHEARSALS, WORKS, Work
from worker.ports import Run, Services

#: Lines of the ledger that a look at one work reads.
LINES = 60
#: The same once a name turns out to be there already.
LINES_MAX = 2_000
#: How long the end of a run is tried to be written down while the store is away; then it is as if its process had died.
ENDING_S = 60.0
ENDING_EVERY_S = 2.0
#: After a start of a worker: a deployment that starts many of them has one run.
START_EVERY_S = 600

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Timetable:
    """The works, and when each is due. It keeps nothing: any number of them may look and run, anywhere, at once."""

    entries: Mapping[str, Entry]
    works: Mapping[str, Work]
    rehearsals: Mapping[str, Work]

    @staticmethod
    def of(data: Mapping[str, Mapping[str, Any]], services: Services) -> Timetable:
        """From `beat_schedule.CLOCK`, in the time zone of the settings."""
        return Timetable(entries(data, services.settings.timezone), WORKS, REHEARSALS)

    def look(self, services: Services) -> list[str]:
        """Write down what was missed beyond its window; the names of works that may have something to run now.

        Raises:
            Transient: the store does not answer.
        """
        ours = [entry for entry in self.entries.values() if entry.name in self.works]
        lines = services.store.latest_runs([entry.name for entry in ours], LINES)
        planned = [(entry.name, self._planned(services, entry, lines[entry.name])) for entry in ours]
        return [name for name, each in planned if each.due or each.begun]

    def run_due(self, services: Services, name: str) -> bool | None:
        """Run a work if its latest slot is to be run; how it went, None when there was nothing to do or its lane is taken.

        Raises:
            Transient: the store does not answer, and nothing was begun.
        """
        entry = self.entries[name]
        if name not in self.works:  # another version's
            return None
        planned = self._planned(services, entry)
        if not planned.due and not planned.begun:
            return None
        with lane(services, entry.lane) as ours:
            if not ours:
                return None
            self._bury(services, name)
            slot = self._planned(services, entry).due
            if slot and not services.store.claim_run(name, slot, services.owner):
                # Its name may stand further down, where a clock that was wrong wrote it.
                slot = _plan(services, entry, services.store.runs(name, LINES_MAX), LINES_MAX).due
                slot = slot if slot and services.store.claim_run(name, slot, services.owner) else None
            return self._run_once(services, name, slot).ok if slot else None

    def run_at_start(self, services: Services, name: str) -> bool | None:
        """Run a work because a worker has started, unless one did so for it in the same ten minutes."""
        if name not in self.works:
            return None
        now = services.clock.time()
        slot = f"start:{slot_name(now - now % START_EVERY_S)}"
        with lane(services, self.entries[name].lane) as ours:
            if not ours or not services.store.claim_run(name, slot, services.owner):
                return None
            return self._run_once(services, name, slot).ok

    def run_now(self, services: Services, name: str) -> Report | None:
        """Run a work because a person asks; None when its lane is taken.

        Raises:
            Transient: the store does not answer, and nothing was begun.
        """
        with lane(services, self.entries[name].lane) as ours:
            if not ours:
                return None
            self._bury(services, name)
            slot = f"manual:{slot_name(services.clock.time())}"
            return self._run_once(services, name, slot) if services.store.claim_run(name, slot, services.owner) else None

    def _planned(self, services: Services, entry: Entry, lines: Sequence[Run] | None = None) -> Plan:
        """What is to be done, once what was missed is written down; by these lines of the ledger, or by its newest."""
        planned = _plan(services, entry, lines)
        if planned.newborn:
            _bear(services, entry)
            planned = _plan(services, entry)
        if planned.missed:
            _miss(services, entry.name, planned)
        return planned

    def _bury(self, services: Services, name: str) -> None:
        """End the runs of processes that died; call it with the lane."""
        for line in services.store.runs(name, LINES):
            if line.ended_at is None:
                report = {"summary": "its process died, or stood still for too long", "died": True, "again": True}
                services.store.end_run(name, line.slot, ok=False, report={**report, "at": services.clock.time()})
                log.warning("the process of a work by the clock died", work=name, slot=line.slot, owner=line.owner)

    def _run_once(self, services: Services, name: str, slot: str) -> Report:
        """Run what was taken, and write down how it went, whatever happens to it."""
        services.failpoints.hit("maintenance.claimed", name)
        log.info("a work by the clock begins", work=name, slot=slot)
        begun = time.monotonic()
        report, again = Report(False, "it was broken off"), True
        try:
            report, again = _outcome(self.works[name], services, name)
        finally:
            services.failpoints.hit("maintenance.done", name)
            seconds = round(time.monotonic() - begun, 3)
            document = report.document() | {"seconds": seconds, "at": services.clock.time()} | ({"again": True} if again else {})
            _write_end(lambda: services.store.end_run(name, slot, ok=report.ok, report=document))
            told = log.info if report.ok else log.error
            told("a work by the clock has ended", work=name, slot=slot, ok=report.ok, seconds=seconds, summary=report.summary)
        return report


def _outcome(work: Work, services: Services, name: str) -> tuple[Report, bool]:
    """What a work says, and whether it is worth another try: what it found itself is its result, whatever that is."""
    try:
        return work(services), False
    except HaulError as error:
        return Report(False, str(error)), True
    except Exception as error:  # what a library says may hold an address with its password: it goes to the log of this machine alone
        log.exception("a work by the clock failed in a way it should not", work=name)
        return Report(False, f"{type(error).__name__}; the log of the worker tells more"), True


def _write_end(write: Callable[[], None]) -> None:
    deadline = time.monotonic() + ENDING_S
    while True:
        try:
            return write()
        except Transient:
            if time.monotonic() >= deadline:
                raise
            time.sleep(ENDING_EVERY_S)


def _plan(services: Services, entry: Entry, lines: Sequence[Run] | None = None, of: int = LINES) -> Plan:
    lines = services.store.runs(entry.name, of) if lines is None else lines
    return plan(entry, lines, services.clock.time(), services.store.now(), all_lines=len(lines) < of)


def _bear(services: Services, entry: Entry) -> None:
    """Begin to follow a work: what was due before is none of its, but for the latest slot of one that is not to wait."""
    since = services.clock.time()
    latest = entry.latest(since) if entry.first else None
    if latest is not None and since - latest <= entry.window_s:
        since = latest - 1.0
    now = services.store.now()
    report = {"summary": "from here on it is due by the clock", "since": since, "at": services.clock.time()}
    births = sum(is_birth(line.slot) for line in services.store.runs(entry.name, LINES))
    slot = f"{BORN}#{births + 1}" if births else BORN
    services.store.keep_runs([Run(entry.name, slot, services.owner, now, now, True, report)])


def _miss(services: Services, name: str, planned: Plan) -> None:
    now, at = services.store.now(), services.clock.time()
    report = {"summary": "missed: nobody was there to run it inside its window", "missed": True, "at": at}
    reports = [report | ({"before": planned.before} if planned.before else {}), *[report] * (len(planned.missed) - 1)]
    lines = [Run(name, slot, services.owner, now, now, False, each) for slot, each in zip(planned.missed, reports, strict=True)]
    services.store.keep_runs(lines)
    log.error("a work by the clock was missed", work=name, slots=len(lines) + planned.before, latest=planned.missed[-1])
