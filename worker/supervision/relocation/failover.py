"""What becomes of the jobs of an engine that has not answered for long: they go on elsewhere, or wait for it, for a reason.

Nothing is asked of the engine. A job that moves gets another attempt, and so another name and another work directory; should the
engine come back, or never have stopped, what it has of the old attempt is an orphan, and its directory is of no use.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from worker import logs, sharing
from worker.jobs.events import EventType
from worker.jobs.model import Job, Progress, SourceKind
from worker.jobs.states import IN_SLOT, Reason, State, Want
from worker.limits import STEP_BATCH
from worker.ports import Change, Lease, Services, Step
from worker.supervision.again import Again
from worker.supervision.attend import delete_files, let_go
from worker.supervision.board import Board
from worker.supervision.corrections import Action, Corrections
from worker.supervision.deaths import Deaths, carried, judged
from worker.supervision.health import Health, able_others
from worker.supervision.lease import Fenced

#: Between two looks at the jobs of a dead engine: users go on to pause, resume and cancel, and other engines come and go.
LOOK_S = 5.0
#: Whose files, once complete, are put in place without a question to the engine.
WITHOUT_ENGINE = frozenset({SourceKind.HTTP, SourceKind.FTP})

log = logs.get(__name__)


class Failover:
    """Of one engine, by its owner."""

    def __init__(
        self,
        services: Services,
        engine: Fenced,
        health: Health,
        board: Board,
        corrections: Corrections,
        again: Again,
        deaths: Deaths,
    ) -> None:
        self._services = services
        self._engine = engine
        self._health = health
        self._board = board
        self._corrections = corrections
        self._again = again
        self._deaths = deaths
        self._looked_at = float("-inf")

    def covers(self, lease: Lease, error: str | None) -> bool:
        """Whether the engine is left alone for now: it was silent a moment ago. Once that is so for long its jobs are dealt with.

        Raises:
            Transient: store or Redis does not answer.
            LeaseLost: it is another's by now; of a batch that is cut off, what was changed before stays.
        """
        self._health.take_over(lease)
        if self._health.dead and time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = time.monotonic()
            self._board.show(lease, {})
            self.relieve(lease, self._health.silent_s)
        if self._health.rests_unasked:
            self._board.share(None, error)
            return True
        if error is not None:  # before anything is ordered of an engine that may be away
            self._deaths.seen(lease, self._health.look(lease, self._engine))
        return False

    def relieve(self, lease: Lease, silent_s: float) -> int:
        """Move the jobs of the engine that may go on elsewhere; do what users ask of the others. Idempotent.

        Returns:
            how many were moved.
        """
        others = able_others(self._services, self._engine.name)
        jobs = self._services.store.at_engine(self._engine.name)
        jobs = self._handed_over(lease, jobs)
        words = f"{self._engine.name} has not answered for {silent_s:.0f} s"
        cancelled = self._cancel(lease, [job for job in jobs if _to_cancel(job)], words)
        moved = 0
        for batch in _batches([job for job in jobs if not _to_cancel(job)]):
            moved += self._move(lease, batch, others, words, silent_s)
        if moved:
            log.warning(
                "the jobs of an engine that does not answer go on elsewhere", engine=self._engine.name, jobs=moved, silent_s=silent_s
            )
            self._corrections.made(Action.MOVE, moved)
        if moved or cancelled:
            for step in (Step.ADMIT, Step.NOTIFY):
                self._services.nudger.nudge(step)
        return moved

    def _handed_over(self, lease: Lease, jobs: Sequence[Job]) -> list[Job]:
        """The jobs as they are once those that let go of a download have given it to who waits for it."""
        leaving = [job for job in jobs if _lets_go(job)]
        if not leaving:
            return list(jobs)
        successors, left = sharing.hand_over(self._services, lease, leaving)
        gone = {job.id for job in left}
        return [*(job for job in jobs if job.id not in gone), *successors]

    def _cancel(self, lease: Lease, jobs: Sequence[Job], words: str) -> int:
        """What the engine still has is removed when it is back: no record asks for it any more."""
        if jobs:
            self._engine.require()
        for job in jobs:
            delete_files(self._services, job)
        at = self._services.clock.time()
        gone = {"phase": None, "reason": None, "transfer": None}
        news = [job.moved(State.CANCELLED, at, f"cancelled; {words}", event=EventType.CANCELLED, **gone) for job in jobs]
        applied = self._services.store.apply([Change(old, new) for old, new in zip(jobs, news, strict=True)], lease) if jobs else []
        ended = [(old.transfer, a.job) for old, a in zip(jobs, applied, strict=True) if a.won and a.job is not None and old.transfer]
        sharing.let_go(self._services, ended)
        for _, job in ended:
            self._services.metrics.ended.labels(job.state, "").inc()
        return len(ended)

    def _move(self, lease: Lease, jobs: Sequence[Job], others: Collection[str], words: str, silent_s: float) -> int:
        at, seen_at = self._services.clock.time(), self._services.store.now() - silent_s
        able = {job.id for job in jobs if job.engine is None and self._fit(job, others)}
        changes = [
            Change(job, carried(job, new, verdict, seen_at, at))
            for job, verdict in judged(jobs, seen_at)
            if (new := moved(job, words, at, able=job.id in able)) is not None
        ]
        if not changes:
            return 0
        # Nothing of it lies on the volume it goes to: until its new engine shows what does, all of it is owed there.
        blank = {c.old.id: Progress(total=c.old.progress.total) for c in changes if c.new.attempt > c.old.attempt}
        if blank:
            self._services.store.record_progress(blank, lease)
        applied = self._services.store.apply(changes, lease)
        self._services.failpoints.hit("failover.moved")
        written = [a.job for a in applied if a.won and a.job is not None]
        self._again.queue(written)
        let_go(self._services, written)
        return sum(job.id in blank for job in written)

    def _fit(self, job: Job, others: Collection[str]) -> bool:
        return any(self._services.engines[name].features.beyond(job) is None for name in others)


def moved(job: Job, words: str, at: float, *, able: bool) -> Job | None:
    """What a job of a dead engine becomes; None when it stays as it is. Pure.

    Args:
        able: another engine may take it now.
    """
    if job.want is Want.PAUSE and job.state in IN_SLOT:
        return job.moved(State.PAUSED, at, f"paused; {words}", event=EventType.PAUSED, phase=None)
    if not able or job.want is not Want.RUN or job.transfer is None or not job.at_attempt:
        return None
    text, attempt = f"{words}; it goes on at another engine, attempt {job.attempt + 1}", job.attempt + 1
    if job.state is State.QUEUED:  # it was resumed, or waits for what its engine had too little of
        return job.noted(at, text, attempt=attempt)
    if job.state in IN_SLOT or _cannot_be_finished(job):
        return job.moved(State.QUEUED, at, text, reason=Reason.ENGINE, message=words, phase=None, attempt=attempt, seeding=False)
    return None


def _cannot_be_finished(job: Job) -> bool:
    """Whether the engine has to say which files are to be put in place, and has not."""
    reads = job.transfer is not None and job.transfer.size is not None
    return job.state is State.FINISHING and job.result is None and not reads and job.source.kind not in WITHOUT_ENGINE


def _lets_go(job: Job) -> bool:
    stands = job.state is State.PAUSED and job.reason is Reason.DUPLICATE
    return job.want is Want.CANCEL or stands or (job.want is Want.PAUSE and job.state in IN_SLOT)


def _to_cancel(job: Job) -> bool:
    return job.want is Want.CANCEL and not job.terminal and job.transfer is not None and job.result is None


def _batches(jobs: Sequence[Job]) -> Iterable[Sequence[Job]]:
    return (jobs[start : start + STEP_BATCH] for start in range(0, len(jobs), STEP_BATCH))
