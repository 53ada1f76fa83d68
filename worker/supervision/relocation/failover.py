"""What becomes of the jobs of an engine that has not answered for long: they go on elsewhere, or wait for it, for a reason.

Nothing is asked of the engine. A job that moves gets another attempt, and so another name and another work directory; should the
engine come back, or never have stopped, what it has of the old attempt is an orphan, and its directory is of no use.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from worker import logs
from worker.jobs.model import Job
from worker.ports import Change, Engine, Lease, Services, able
from worker.supervision.board import Board
from worker.supervision.corrections import Action, Corrections
from worker.supervision.deaths import Deaths, carried, judged
from worker.supervision.endings import let_go
from worker.supervision.health import Health
from worker.supervision.lease import Fenced
from worker.supervision.relocation import departure, stranded

#: Between two looks at the jobs of a dead engine: users go on to pause, resume and cancel, and other engines come and go.
LOOK_S = 5.0

log = logs.get(__name__)


class Failover:
    """Of one engine, by its owner."""

    def __init__(self, services: Services, engine: Fenced, health: Health, board: Board, corrections: Corrections, deaths: Deaths) -> None:
        self._services, self._engine, self._health = services, engine, health
        self._board, self._corrections, self._deaths = board, corrections, deaths
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
        others = departure.others(self._services, self._engine.name)
        why = f"{self._engine.name} has not answered for {silent_s:.0f} s"
        jobs = self._services.store.at_engine(self._engine.name)
        there, _ = stranded.follow_wishes(self._services, lease, jobs, why, self._engine.require)
        moved = sum(self._move(lease, batch, others, why, silent_s) for batch in departure.batches(there))
        if moved:
            log.warning(
                "the jobs of an engine that does not answer go on elsewhere", engine=self._engine.name, jobs=moved, silent_s=silent_s
            )
            self._corrections.made(Action.MOVE, moved)
        return moved

    def _move(self, lease: Lease, jobs: Sequence[Job], others: Sequence[Engine], why: str, silent_s: float) -> int:
        """What died of one of them takes along what is held against it, or has failed."""
        at, seen_at = self._services.clock.time(), self._services.store.now() - silent_s
        changes = [
            Change(job, carried(job, new, verdict, seen_at, at))
            for job, verdict in judged(jobs, seen_at)
            if (new := stranded.stranded(job, why, at, able=bool(able(job, others)))) is not None
        ]
        made = departure.record(self._services, lease, changes)
        let_go(self._services, [change.new for change in made])
        return sum(map(departure.departs, made))
