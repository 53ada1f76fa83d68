"""What an engine's owner makes of its answers: how long it is silent, whether it rests, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from worker import logs
from worker.breaker import Breaker, Circuit
from worker.jobs.errors import Transient
from worker.jobs.states import Cause, State
from worker.limits import OWN_FAULTS_MAX, PROBE_S_MAX, SILENT_S, TRIAL_S
from worker.ports import Fault, ItemStatus, Lease, Poll, Services
from worker.supervision.diff import Findings, Watched
from worker.supervision.lease import Fenced

#: Its pace is the most it fetched at; what it fetched at so long ago counts half.
PACE_HALF_S = 300.0
#: Between two looks at a silent engine: a part of the time it has been silent, so that looks become rare and never cease.
PROBE_PART = 0.1

log = logs.get(__name__)


def probe_pause_s(silent_s: float) -> float:
    """Seconds to the next look at an engine that has been silent for so long: an outage of an hour is looked at some 290 times."""
    return min(PROBE_S_MAX, PROBE_PART * silent_s)


def own_fault(fault: Fault | None) -> bool:
    """Whether a fault says that the engine does not work; that it is not made for a source says nothing."""
    return fault is not None and fault.elsewhere and fault.wait is None and fault.cause is not Cause.UNSUPPORTED


class Health:
    """Of one engine, kept by its owner. The breaker is written down whenever it changes; the rest is told by the next answers.

    Attributes:
        breaker: as it is recorded.
        pace: bytes a second, the most it fetched at lately; None when it has fetched nothing.
    """

    def __init__(self, services: Services, engine: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.breaker = Breaker()
        self.pace: float | None = None
        self._services = services
        self._engine = engine
        self._monotonic = monotonic
        self._silent_s = min(SILENT_S, services.settings.failover_s)
        self._token = 0
        self._silent_since: float | None = None
        self._probed_at = float("-inf")
        self._paced_at = 0.0
        self._in_row = 0
        self._tried: dict[str, tuple[float, int]] = {}

    def take_over(self, lease: Lease) -> None:
        """Read what the owner before has written down, once for each lease."""
        if lease.token == self._token:
            return
        self.breaker = self._services.store.breakers().get(self._engine, Breaker())
        self._silent_since, self._in_row, self._tried = None, 0, {}
        if self.breaker.silent_since is not None:  # it goes on as it was: the time is not waited for once more
            self._silent_since = self._monotonic() - max(0.0, self._services.store.now() - self.breaker.silent_since)
        self._token = lease.token
        self._show()

    @property
    def silent_s(self) -> float:
        """For how long it has not answered; 0 while it does."""
        return 0.0 if self._silent_since is None else self._monotonic() - self._silent_since

    @property
    def rests_unasked(self) -> bool:
        """Whether it is too soon to look at it again."""
        if self.breaker.state is not Circuit.OPEN or self._silent_since is None:
            return False
        return self._monotonic() - self._probed_at < probe_pause_s(self.silent_s)

    @property
    def dead(self) -> bool:
        """Whether its jobs are not to wait for it any more."""
        if self.breaker.state is not Circuit.OPEN or self._silent_since is None:
            return False
        return self._probed_at - self._silent_since >= self._services.settings.failover_s

    def look(self, lease: Lease, engine: Fenced) -> Poll:
        """Ask the engine for everything it has, and remember whether it answered.

        Raises:
            Transient: the engine, or the store, does not answer.
            LeaseLost: the breaker is another's to keep.
        """
        try:
            poll = engine.poll()
        except Transient as error:
            self._unanswered(lease, error.detail)
            raise
        self._silent_since = None
        self._measure(poll)
        if self.breaker.silent_since is not None or self.breaker.state is Circuit.OPEN:
            self._keep(lease, self.breaker.answered(self._services.store.now()))
        return poll

    def _unanswered(self, lease: Lease, error: str) -> None:
        self._probed_at = now = self._monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        if self.silent_s >= self._silent_s and self.breaker.silent_since is None:
            at = self._services.store.now()
            self._keep(lease, self.breaker.unanswered(at, at - self.silent_s, error))

    def submitted(self, faults: Sequence[Fault | None]) -> None:
        """What it said to orders; whether those that it took are downloads yet, the next answers tell."""
        self._in_row += sum(own_fault(fault) for fault in faults)

    def judge(self, lease: Lease, watched: Mapping[str, Watched], poll: Poll, found: Findings) -> None:
        """Look at what became of its downloads since the last answer."""
        good = len(found.complete)
        for handle in found.failed:
            self._in_row += own_fault(poll.items[handle].fault)
        self._in_row = 0 if good else self._in_row
        if self._failed_again():
            words = "a download failed by its fault" if self._tries else "downloads in a row failed by its fault"
            self._keep(lease, self.breaker.opened(self._services.store.now(), words))
            return
        shown = self._tries and (good or self._works(watched, poll))
        if shown or (good and self.breaker.level and self.breaker.state is Circuit.CLOSED):
            self._keep(lease, self.breaker.succeeded(self._services.store.now()))

    @property
    def _tries(self) -> bool:
        return self.breaker.state is Circuit.HALF_OPEN

    def _failed_again(self) -> bool:
        if self.breaker.state is Circuit.OPEN:
            return False  # what still ran there; it rests already
        return self._in_row >= (1 if self._tries else OWN_FAULTS_MAX)

    def _works(self, watched: Mapping[str, Watched], poll: Poll) -> bool:
        """Whether a download there has got bytes since it is tried, or has been at work for long enough."""
        now = self._monotonic()
        ours = {h: poll.items[h] for h, job in watched.items() if job.state is State.DOWNLOADING and h in poll.items}
        at_work = {handle: item for handle, item in ours.items() if item.status is ItemStatus.RUNNING}
        self._tried = {handle: self._tried.get(handle, (now, item.progress.done)) for handle, item in at_work.items()}
        return any(item.progress.done > self._tried[h][1] or now - self._tried[h][0] >= TRIAL_S for h, item in at_work.items())

    def _measure(self, poll: Poll) -> None:
        now = self._monotonic()
        faded = 0.0 if self.pace is None else self.pace * 0.5 ** ((now - self._paced_at) / PACE_HALF_S)
        if any(item.status is ItemStatus.RUNNING for item in poll.items.values()):
            self.pace = max(float(poll.speed), faded) or None
            self._paced_at = now

    def _keep(self, lease: Lease, breaker: Breaker) -> None:
        if breaker == self.breaker:
            return
        self._services.store.keep_breaker(self._engine, breaker, lease)
        if breaker.state is not self.breaker.state:
            self._tried, self._in_row = {}, 0  # what failed before says nothing of what is tried now
            log.warning(
                "the breaker of an engine moved", engine=self._engine, state=str(breaker.state), level=breaker.level, why=breaker.reason
            )
        self.breaker = breaker
        self._show()

    def _show(self) -> None:
        for state in Circuit:
            self._services.metrics.engine_breaker.labels(self._engine, state).set(state is self.breaker.state)
