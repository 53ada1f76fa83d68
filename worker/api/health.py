"""Is the process alive, does it reach what it needs, and what does it count."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from worker import pipeline
from worker.answers import Answers
from worker.api.problems import ProblemResponse
from worker.jobs.errors import Transient
from worker.jobs.states import State
from worker.maintenance.backup import standing as backups
from worker.maintenance.standing import LedgerFigures
from worker.maintenance.timetable import LINES
from worker.maintenance.works import WORKS
from worker.ports import Services
from worker.reads import STATISTICS_S

#: A loop that has not ticked for so long hangs; the slowest rests 10 s between two ticks and an engine's call takes 10 s.
STALLED_S = 30.0


class Health:
    """The routes that probes and scrapers ask for; none needs a key.

    Args:
        loops: the seconds since the last tick of each loop of this process, by its name.
    """

    def __init__(self, services: Services, loops: Callable[[], dict[str, float]]) -> None:
        self._services, self._answers = services, Answers(services)
        self._loops = loops
        self._ledger, self._ledger_at = LedgerFigures(services.metrics), -math.inf

    async def health(self) -> Response:
        """200 while this process answers and its loops tick; looks at nothing outside of it."""
        ages = {name: round(age, 3) for name, age in self._loops().items()}
        stalled = sorted(name for name, age in ages.items() if age > STALLED_S)
        if stalled:
            return ProblemResponse(503, f"no tick for {STALLED_S:g} s: {', '.join(stalled)}", fix="restart this process", loops=ages)
        return JSONResponse({"status": "ok", "loops": ages})

    def ready(self) -> Response:
        """200 when every dependency answers, each with its latency; 503 when one does not."""
        services = self._services
        checks = {"store": _timed(services.store.ping), "redis": _timed(services.coordinator.ping)}
        checks["limits"] = self._limits()
        if services.settings.engines_file:  # those that are in force are good, whatever is wrong with what was written last
            checks["list of engines"] = {"ok": True, "error": services.pool.fault, "latency_s": None}
        checks |= self._engines() if checks["redis"]["ok"] else {}
        down = [f"{name}: {check['error']}" for name, check in checks.items() if not check["ok"]]
        if down:
            return ProblemResponse(503, "; ".join(down), retry_after_s=STALLED_S, checks=checks)
        return JSONResponse({"status": "ok", "checks": checks})

    def metrics(self) -> Response:
        """Every metric of this process, in the text form of Prometheus."""
        self._count()
        return Response(generate_latest(self._services.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def _limits(self) -> dict[str, Any]:
        """The limits are good while there are some in force; what is wrong with those written last is told."""
        found = _timed(self._services.tiers.fresh)
        return {**found, "error": found["error"] or self._services.tiers.fault}

    def _engines(self) -> dict[str, dict[str, Any]]:
        """Each engine as its owner saw it last; nobody asks it for a probe."""
        try:
            seen, drained = self._services.coordinator.snapshots(), pipeline.away_on_purpose(self._services)
        except Transient as error:
            return {"engines": {"ok": False, "error": str(error), "latency_s": None}}
        checks = {}
        for name in sorted({*self._services.engines, *seen}):
            fault = seen[name].error if name in seen else "no supervisor has looked at it in the last seconds"
            checks[f"engine {name}"] = {"ok": fault is None or name in drained, "error": fault, "latency_s": None}
        return checks

    def _count(self) -> None:
        """Set what is counted outside of this process; what cannot be asked is left out, never guessed."""
        services, metrics = self._services, self._services.metrics
        try:
            counts = self._answers.counts()
            for state in State:
                metrics.jobs.labels(str(state)).set(counts.get(state, 0))
        except Transient:
            metrics.jobs.clear()
        with contextlib.suppress(Transient):
            self._look_into_the_ledger()
        _set(metrics.intake, services.coordinator.intake_size)
        _set(metrics.put_aside, services.coordinator.parked_size)
        _set(metrics.waiting, services.coordinator.waiting_size)

    def _look_into_the_ledger(self) -> None:
        """What is done by the clock. Its lines are many and change once an hour, so each process looks rarely."""
        if time.monotonic() < self._ledger_at:
            return
        lines = self._services.store.latest_runs(tuple(dict.fromkeys((*WORKS, *backups.NAMES))), LINES)
        self._ledger.set({name: lines[name] for name in WORKS})
        backups.show(lines, self._services.metrics)
        self._ledger_at = time.monotonic() + STATISTICS_S


def _set(gauge: Gauge, ask: Callable[[], int]) -> None:
    try:
        gauge.set(ask())
    except Transient:
        gauge.set(math.nan)  # a gauge without labels cannot be taken out


def _timed(ask: Callable[[], object]) -> dict[str, Any]:
    began = time.perf_counter()
    error: str | None = None
    try:
        ask()
    except Transient as failure:
        error = str(failure)
    return {"ok": error is None, "error": error, "latency_s": round(time.perf_counter() - began, 6)}
