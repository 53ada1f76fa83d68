"""The advisor of a process: counts in the caller's thread, asks for plans and tells what it found in one of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from worker import logs
from worker.jobs.errors import Transient
from worker.metrics import Metrics
from worker.store.advisor.findings import Finding, Kind, judged
from worker.store.advisor.operation import Plan
from worker.store.advisor.tally import Tallies, Tally

log = logs.get(__name__)

#: A process that lives shorter tells nothing and asks for no plan.
FIRST_LOOK_S = 5.0
LOOK_EVERY_S = 5.0
TELL_EVERY_S = 15.0
#: Plans that wait to be asked for, and how many are asked for at a look: a server is never busy with our curiosity.
PLANS_WAITING_MAX = 64
PLANS_A_LOOK = 5
UNUSED_EVERY_S = 3_600.0
#: What is told of a process, at most; each is about 500 bytes.
FINDINGS_MAX = 50
OPERATIONS_MAX = 20


class Asker(Protocol):
    """Asks the server on the advisor's behalf, in a thread of the advisor's own; may raise Transient."""

    def explain(self, tally: Tally, request: Any) -> Plan | None:
        """The plan of a request; None when there is none."""

    def unused(self) -> Sequence[Finding]:
        """Indexes that nobody uses, where the server tells."""


class Advisor:
    """Made once a process, after fork, and given to the store, which closes it.

    Args:
        tell: shares a summary with those who ask for advice; it may raise Transient. Without it nothing runs in the background.
    """

    def __init__(
        self, tell: Callable[[Mapping[str, Any]], object] | None = None, metrics: Metrics | None = None, tallies: Tallies | None = None
    ) -> None:
        self.tallies = tallies or Tallies()
        self._asker: Asker | None = None
        self._tell, self._metrics = tell, metrics
        self._plans: deque[tuple[Tally, Any]] = deque(maxlen=PLANS_WAITING_MAX)
        self._unused: Sequence[Finding] = ()
        self._counted: dict[tuple[str, str], tuple[int, float]] = {}
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def asks(self, asker: Asker) -> None:
        """Ask the server by this one from now on."""
        self._asker = asker

    def saw(self, tally: Tally, seconds: float, rows: int, request: Any) -> None:
        """Count an operation; call it in the thread that asked for it."""
        if self.tallies.count(tally, seconds, rows) and request is not None:
            self._plans.append((tally, request))
            if self._thread is None and self._tell is not None:
                self._start()

    def look(self, plans: int = PLANS_A_LOOK) -> None:
        """Ask for plans that were not asked for yet, at most so many."""
        for _ in range(plans):
            if self._asker is None or not self._plans:
                return
            tally, request = self._plans.popleft()
            try:
                tally.plan = self._asker.explain(tally, request) or tally.plan
            except Transient:  # the store is away; the shape is explained again in ten minutes
                return

    def findings(self) -> list[Finding]:
        """What is known now."""
        return [*judged(self.tallies.all()), *self._unused]

    def summary(self) -> dict[str, Any]:
        """Findings and the shapes that cost most, bounded, without a value of any request."""
        tallies = sorted(self.tallies.all(), key=lambda tally: tally.seconds, reverse=True)
        operations = [
            {
                "operation": tally.operation.text,
                "store": tally.operation.store,
                "count": tally.count,
                "seconds": round(tally.seconds, 3),
                "longest_ms": round(1_000 * tally.longest, 1),
            }
            for tally in tallies[:OPERATIONS_MAX]
        ]
        findings = [finding.document() for finding in self.findings()[:FINDINGS_MAX]]
        return {"findings": findings, "operations": operations, "shapes": len(tallies), "shapes_dropped": self.tallies.dropped}

    def close(self) -> None:
        """End the background thread; idempotent, and waits for it only as long as a look may take."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(LOOK_EVERY_S)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="advisor", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        untold_s, unseen_s, rest_s = TELL_EVERY_S, UNUSED_EVERY_S, FIRST_LOOK_S
        while not self._closed.wait(rest_s):
            rest_s = LOOK_EVERY_S
            untold_s, unseen_s = untold_s + rest_s, unseen_s + rest_s
            try:
                self.look()
                if unseen_s >= UNUSED_EVERY_S and self._asker is not None:
                    unseen_s, self._unused = 0.0, self._asker.unused()
                if untold_s >= TELL_EVERY_S:
                    untold_s = 0.0
                    self._share()
            except Transient:
                continue  # what is not told now is told the next time
            except Exception:  # advice is a courtesy: nothing that goes wrong with it may end more than the advice
                log.exception("the advisor failed in a way it should not; it goes on")

    def _share(self) -> None:
        if self._metrics is not None:
            self._measure(self._metrics)
        if self._tell is not None:
            self._tell(self.summary())

    def _measure(self, metrics: Metrics) -> None:
        sums: dict[tuple[str, str], tuple[int, float]] = {}
        for tally in self.tallies.all():
            mean = tally.seconds / tally.count if tally.count else 0.0
            for name, count in tally.calls.copy().items():
                key = (name, str(tally.operation.verb))
                calls, seconds = sums.get(key, (0, 0.0))
                sums[key] = (calls + count, seconds + count * mean)
        for key, (calls, seconds) in sums.items():
            before, spent = self._counted.get(key, (0, 0.0))
            metrics.store_operations.labels(*key).inc(max(0, calls - before))
            metrics.store_seconds.labels(*key).inc(max(0.0, seconds - spent))
        self._counted = sums
        kinds = [finding.kind for finding in self.findings()]
        for kind in Kind:
            metrics.advice.labels(str(kind)).set(kinds.count(kind))
