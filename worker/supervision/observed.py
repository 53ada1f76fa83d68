"""What an engine showed is written down; then the engine, and what is remembered of it, are brought in line with the records."""

from __future__ import annotations

from collections.abc import Mapping

from worker.jobs.model import Job
from worker.jobs.states import State, Want
from worker.ports import Lease, Poll, Services, Step
from worker.supervision import attend, endings, failures, settle, submission
from worker.supervision.again import Again
from worker.supervision.allocation import Allocation
from worker.supervision.corrections import Action, Corrections
from worker.supervision.diff import Findings
from worker.supervision.lease import Fenced, Held
from worker.supervision.watchlist import Watchlist


class Observed:
    """Of one engine, by its owner. What is missed here is found again by the next tick."""

    def __init__(
        self,
        services: Services,
        engine: Fenced,
        held: Held,
        watchlist: Watchlist,
        allocation: Allocation,
        again: Again,
        corrections: Corrections,
    ) -> None:
        self._services, self._engine, self._held = services, engine, held
        self._watchlist, self._allocation, self._again, self._corrections = watchlist, allocation, again, corrections

    def follow(self, lease: Lease, poll: Poll, found: Findings) -> int:
        """Bring about what follows from the difference; returns how many downloads ended."""
        if found.quiet:
            self._correct(lease, [], {}, [])
            return 0
        services, watched = self._services, self._watchlist.jobs
        handles = [*found.adopted, *found.complete, *found.failed, *found.dead, *found.stopped, *found.missing, *found.phases]
        by_job = {watched[handle].job: handle for handle in handles}
        final = {watched[h].job: self._allocation.final(poll.items[h]) for h in found.complete}
        paused = {handle for handle in found.complete if watched[handle].state is State.PAUSED}
        if final:
            services.store.record_progress(final, lease)
        jobs = self._record(lease, poll, found, by_job)
        services.failpoints.hit("tick.recorded")
        self._count(jobs, by_job, found, paused)
        self._after(lease, jobs, by_job, found)
        over = (self._watchlist.jobs.get(handle) for handle in (*found.complete, *found.failed, *found.dead))
        return sum(known is None or known.state is not State.DOWNLOADING for known in over)

    def _record(self, lease: Lease, poll: Poll, found: Findings, by_job: Mapping[str, str]) -> dict[str, Job]:
        services, at, now = self._services, self._services.clock.time(), self._services.store.now()
        drained = services.drains() if found.failed or found.dead else {}
        completes, stops = set(found.complete), set(found.stopped)

        def change(job: Job) -> Job | None:
            handle = by_job[job.id]
            item = poll.items.get(handle)
            if item is None:
                return settle.lost(job, at, now)
            if handle in found.adopted:
                return settle.adopted(job, at)
            if handle in completes:
                return settle.completed(job, item, at)
            if fault := item.fault or found.dead.get(handle):
                return failures.failed(job, fault, at, now, failures.around(services, job, drained))
            if handle in found.phases:
                return settle.phased(job, found.phases[handle], at, now)
            return settle.stopped(job, at) if handle in stops else None

        return settle.move(services, lease, by_job, change)

    def _count(self, jobs: Mapping[str, Job], by_job: Mapping[str, str], found: Findings, paused: set[str]) -> None:
        endings.let_go(self._services, jobs.values())
        state = {by_job[job.id]: job.state for job in jobs.values()}
        self._corrections.made(Action.RESUBMIT, sum(state.get(handle) is State.SUBMITTING for handle in found.missing))
        self._corrections.made(Action.ADOPT, sum(state.get(handle) is State.DOWNLOADING for handle in found.adopted))
        self._corrections.made(Action.FINISH, sum(state.get(handle) is State.FINISHING for handle in paused))

    def _after(self, lease: Lease, jobs: Mapping[str, Job], by_job: Mapping[str, str], found: Findings) -> None:
        """Bring the engine and what is remembered in line with the records."""
        again: dict[str, Job] = {}
        self._again.queue(jobs.values())
        for job in jobs.values():
            handle = by_job[job.id]
            self._watchlist.keep(handle, job)
            if job.state is State.DOWNLOADING and job.want is Want.RUN and handle in found.stopped:
                again[handle] = job
        if self._held.has_time_for(self._engine.rpc_timeout_s):
            over = {handle: self._watchlist.jobs.get(handle) for handle in (*found.failed, *found.dead)}
            spent = [handle for handle, known in over.items() if known is None or known.state is State.PAUSED]  # handed over anew, if ever
            self._correct(lease, spent, again, found.running)
        for some, step in ((found.complete, Step.FINISH), (found.stopped, Step.ADMIT), (jobs, Step.NOTIFY)):
            if some:
                self._services.nudger.nudge(step)

    def _correct(self, lease: Lease, spent: list[str], again: Mapping[str, Job], running: list[str]) -> None:
        """Remove what failed, resume what should run, stop what should not."""
        attend.remove_spent(self._services, self._engine, spent)
        if again:
            refused = submission.hand_back(self._services, self._engine, lease, list(again.values()))
            self._again.queue(refused)
            self._watchlist.watch(refused)
            endings.let_go(self._services, refused)
        if running:
            self._engine.pause(running)
        self._corrections.asked(Action.RESUME, [handle for handle, job in again.items() if not submission.stops_by_itself(job)])
        self._corrections.asked(Action.STOP, running)
