"""Items of an engine that no record asks for: ours are removed after a second look, others are left and reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from worker import logs
from worker.jobs.model import Job
from worker.jobs.transfer import is_of, maker
from worker.ports import Lease, Poll, Services
from worker.supervision.corrections import Action, Corrections
from worker.supervision.lease import Fenced
from worker.supervision.remains import Remains

log = logs.get(__name__)


class Reconciler:
    """Looks for orphans when it is due: after a takeover, after a restart of the engine, and each minute.

    The engine is read first, then the store, twice, a tick apart; only what is an orphan both times is removed.

    Attributes:
        foreign: items of the last look that are not ours.
    """

    def __init__(self, services: Services, engine: Fenced, corrections: Corrections) -> None:
        self.foreign = 0
        self._services = services
        self._engine = engine
        self._corrections = corrections
        self._remains = Remains(services, engine, corrections)
        self._suspects: set[str] | None = None
        self._due = True
        self._reported: frozenset[str] = frozenset()

    def due(self) -> None:
        """Look at the next opportunity."""
        self._due = True

    def consider(self, lease: Lease, poll: Poll, unwatched: Sequence[str]) -> None:
        """Go on with the look that is under way, or begin one when it is due.

        Args:
            unwatched: handles of the poll that the owner does not watch.
        """
        mine = self._services.settings.installation
        found = {handle: poll.items[handle].transfer for handle in unwatched}
        ours = {handle: transfer for handle, transfer in found.items() if transfer is not None and is_of(transfer, mine)}
        strange = set(unwatched) - ours.keys()
        self.foreign = len(strange)
        self._services.metrics.engine_foreign.labels(self._engine.name).set(len(strange))
        if not self._due and self._suspects is None:
            return
        self._report(strange)
        holders = self._services.store.holding(set(ours.values())) if ours else []
        orphans = ours.keys() - {handle for job in holders if (handle := self._claimed(job)) is not None}
        if self._suspects is None:
            self._suspects, self._due = orphans, False
            return
        confirmed, self._suspects = sorted(self._suspects & orphans), None
        gone = self._remove(lease, confirmed, ours) if confirmed else []
        self._remains.clear({item.transfer for handle, item in poll.items.items() if handle not in gone})

    def _remove(self, lease: Lease, handles: Sequence[str], transfers: Mapping[str, str]) -> list[str]:
        self._services.failpoints.hit("orphan.found")
        gone = self._engine.remove(handles)
        jobs = self._services.store.get({maker(transfers[handle]) for handle in gone})
        known = sum(maker(transfers[handle]) in jobs for handle in gone)
        self._corrections.made(Action.FORGET, known)
        self._corrections.made(Action.ORPHAN, len(gone) - known)
        log.info("items that no record asks for are removed", engine=self._engine.name, items=len(gone), token=lease.token)
        return gone

    def _claimed(self, job: Job) -> str | None:
        """The handle that a job's record asks for here."""
        if (job.terminal and not job.seeding) or job.transfer is None or job.transfer.engine != self._engine.name or not job.at_attempt:
            return None
        return self._engine.handle(job.transfer.id, job.transfer.attempt)

    def _report(self, strange: Collection[str]) -> None:
        if strange != self._reported:
            self._reported = frozenset(strange)
            log.info("items that are not ours are left alone", engine=self._engine.name, items=len(strange))
