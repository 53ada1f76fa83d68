"""What an engine still has of jobs whose bytes are all here: kept until they are in place, seeded while that is wanted, then forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterable

from worker import logs, sharing
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import Change, Engine, ItemStatus, Lease, Poll, Services
from worker.supervision import settle
from worker.supervision.endings import delete_files

#: Between two looks at the records of what is being finished.
CLEAR_S = 0.5

log = logs.get(__name__)


class Leftovers:
    """By handle, for one engine. The records are the truth; this only saves reading them all."""

    def __init__(self, services: Services, engine: Engine) -> None:
        self._services = services
        self._engine = engine
        self._finishing: dict[str, str] = {}
        self._seeding: dict[str, str] = {}
        self._cleared_at = float("-inf")

    def remember(self, handle: str, job: Job) -> None:
        """Look after a job that is being finished, or that is done and seeds; others are none of ours."""
        if job.state is State.FINISHING:
            self._finishing[handle] = job.id
        elif job.state is State.DONE and job.seeding:
            self._seeding[handle] = job.id

    def forget(self, handle: str | None = None) -> None:
        """No longer look after this one, or after any."""
        for kept in (self._finishing, self._seeding):
            if handle is None:
                kept.clear()
            else:
                kept.pop(handle, None)

    def clear(self, lease: Lease, poll: Poll) -> list[str]:
        """Let the engine forget what it is not needed for any more; returns these handles.

        An item goes first, then its files, then the record says that it seeds no more: what a crash leaves is found again.
        """
        gone = self._end_seeding(lease, poll)
        if self._finishing and time.monotonic() - self._cleared_at >= CLEAR_S:
            self._cleared_at = time.monotonic()
            gone += self._clear_finished()
        for handle in gone:
            self.forget(handle)
        return gone

    def _clear_finished(self) -> list[str]:
        jobs = self._services.store.get(self._finishing.values())
        over = {handle: jobs.get(id) for handle, id in self._finishing.items() if id not in jobs or jobs[id].state is not State.FINISHING}
        others = self._others(over.values())
        for handle, job in over.items():
            if job is not None and job.state is State.DONE:
                if job.seeding:
                    self.forget(handle)
                    self.remember(handle, job)
                elif handle not in others:
                    delete_files(self._services, job)  # whoever finished it may have died before; the engine's item is the reminder
        for handle, other in others.items():
            if handle not in self._seeding:
                self._finishing[handle] = other.id
        useless = [handle for handle in over if handle not in self._seeding and handle not in others]
        if not useless:
            return []
        self._services.failpoints.hit("finish.deleted")
        return self._engine.remove(useless)

    def _others(self, jobs: Iterable[Job | None]) -> dict[str, Job]:
        """Who else needs what the engine has of jobs that have ended, by handle; their followers are dealt with first."""
        ended = [(job.transfer, job) for job in jobs if job is not None and job.transfer is not None and job.terminal]
        needed = sharing.let_go(self._services, ended)
        mine = {job.id for _, job in ended}
        holders = [job for job in self._services.store.holding(needed) if job.id not in mine] if needed else []
        return {
            self._engine.handle(job.transfer.id, job.transfer.attempt): job
            for job in holders
            if job.transfer is not None and job.at_attempt and not job.terminal
        }

    def _end_seeding(self, lease: Lease, poll: Poll) -> list[str]:
        over = [handle for handle in self._seeding if _has_seeded(poll, handle)]
        if over:
            others = self._others(self._services.store.get(self._seeding[handle] for handle in over).values())
            over = [handle for handle in over if handle not in others]
        if not over:
            return []
        gone = self._engine.remove(over)
        self._services.failpoints.hit("seed.removed")
        jobs = self._services.store.get(self._seeding[handle] for handle in gone)
        for job in jobs.values():
            delete_files(self._services, job)
        self._services.failpoints.hit("seed.deleted")
        at = self._services.clock.time()
        changes = [Change(job, new) for job in jobs.values() if (new := settle.seeded(job, at)) is not None]
        self._services.store.apply(changes, lease)
        log.info("torrents have seeded enough", engine=self._engine.name, items=len(gone))
        return gone


def _has_seeded(poll: Poll, handle: str) -> bool:
    """True when the engine lost it, or shows it complete and at rest; while it checks or is paused it may go on."""
    item = poll.items.get(handle)
    return item is None or item.status is ItemStatus.FAILED or (item.status is ItemStatus.COMPLETE and not item.seeding)
