"""Items of an engine that no record asks for: ours are removed after a second look, others are left and reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker import logs
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import Engine, Lease, Poll, Services
from worker.supervision.attend import delete_files

log = logs.get(__name__)


class Reconciler:
    """Looks for orphans when it is due: after a takeover, after a restart of the engine, and each minute.

    The engine is read first, then the store, twice, a tick apart; only what is an orphan both times is removed.
    """

    def __init__(self, services: Services, engine: Engine) -> None:
        self._services = services
        self._engine = engine
        self._suspects: set[str] | None = None
        self._due = True
        self._reported: frozenset[str] = frozenset()

    def due(self) -> None:
        """Look at the next opportunity."""
        self._due = True

    def consider(self, lease: Lease, poll: Poll, foreign: Sequence[str]) -> None:
        """Go on with the look that is under way, or begin one when it is due.

        Args:
            foreign: handles of the poll that the owner does not watch.
        """
        if not self._due and self._suspects is None:
            return
        ours = [handle for handle in foreign if poll.items[handle].transfer is not None]
        self._report(set(foreign) - set(ours))
        orphans = self._orphans(poll, ours)
        if self._suspects is None:
            self._suspects, self._due = orphans, False
            return
        confirmed, self._suspects = sorted(self._suspects & orphans), None
        if confirmed:
            self._tidy(str(poll.items[handle].transfer) for handle in confirmed)
            gone = self._engine.remove(confirmed)
            self._services.metrics.reconciled.labels(self._engine.name, "orphan").inc(len(gone))
            log.info("items without a record are removed", engine=self._engine.name, items=len(gone), token=lease.token)

    def _orphans(self, poll: Poll, handles: Sequence[str]) -> set[str]:
        transfers = {handle: str(poll.items[handle].transfer) for handle in handles}
        jobs = self._services.store.get(transfers.values())
        return {handle for handle, transfer in transfers.items() if not self._claimed(handle, jobs.get(transfer))}

    def _tidy(self, transfers: Iterable[str]) -> None:
        """What is done was linked into place; who recorded that may have died before it could delete the engine's copy."""
        for job in self._services.store.get(transfers).values():
            if job.state is State.DONE and not job.seeding:
                delete_files(job)

    def _claimed(self, handle: str, job: Job | None) -> bool:
        if job is None or (job.terminal and not job.seeding) or job.transfer is None or job.transfer.engine != self._engine.name:
            return False
        return job.attempt == job.transfer.attempt and handle == self._engine.handle(job.transfer.id, job.attempt)

    def _report(self, strange: set[str]) -> None:
        if strange != self._reported:
            self._reported = frozenset(strange)
            log.info("items that are not ours are left alone", engine=self._engine.name, items=len(strange))
        self._services.metrics.engine_foreign.labels(self._engine.name).set(len(strange))
