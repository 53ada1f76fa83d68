"""The step `admit`: the users who wait and the state of the engines in, records in `submitting` out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from worker import sharing
from worker.admission import idle
from worker.admission.batch import Batch
from worker.admission.follow import Leaders
from worker.admission.queue import belongs
from worker.admission.turns import Turns, holdings, moved, planned
from worker.admission.views import seen_now
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.limits import ADMIT_LEASE_S, SHORT_LOOK, STEP_BUDGET_S
from worker.ports import Lease, Services, Step, WaitingJob, WaitingLine

LEASE_NAME = "admit"
LEASE_RETRY_S = 0.02
#: Jobs that are looked at when there is room for none; with room it is this and two for each place.
LOOK_MIN = 8


def admit(services: Services, limit: int) -> int:
    """Admit what may start, at most `limit` jobs; returns how many were dealt with.

    One admission runs at a time, under a fenced lease; slots and space are derived from live records, so a crash leaks nothing.
    """
    with _turn(services) as lease:
        if lease is None:
            return 0
        begun, now, tiers = time.monotonic(), services.store.now(), services.tiers
        tiers.fresh()
        held = holdings(services.store.slot_counts(), tiers)
        heads = services.coordinator.waiting_heads(limit, now, without=[user for user, had in held.items() if had.full])
        short = services.store.short_of_space(SHORT_LOOK)
        if not heads.lines and not short:
            return 0
        views, space = seen_now(services, short, now)
        lines = planned(heads, held, tiers, min(limit, LOOK_MIN + 2 * sum(view.room for view in views.values())))
        waiting, turns = _jobs(services, lines), Turns(lines, held, tiers)
        batch = Batch(services, views, space, Leaders(services, [*waiting.values(), *short]), now)
        batch.sort(waiting, turns)
        batch.sort_more([job for job in short if job.id not in waiting])
        batch.spend()
        lease = _kept(services, lease, begun)
        if batch.anew:
            services.store.record_progress(batch.anew, lease)
        applied = services.store.apply(batch.changes, lease) if batch.changes else []
        if applied:
            services.failpoints.hit("admit.recorded")
        if not applied:
            applied = idle.end(services, views, space, short, now, lease)
        left = [a.job for a in applied if a.won and a.job is not None and (a.job.state is not State.QUEUED or a.job.following)]
    _let_know(services, left)
    if heads.users:
        services.coordinator.move_turns(moved(turns, heads, held, tiers, now))
    aside = [WaitingJob.of(job, due) for job, due in batch.aside if job.id in waiting]  # those beyond the heads are aside already
    if aside:
        services.failpoints.hit("admit.aside")
        services.coordinator.add_waiting(aside)
    return len(left) + len(aside)


def _let_know(services: Services, left: Sequence[Job]) -> None:
    """Let the index and the next steps know who does not wait for a turn any more."""
    failed = [job for job in left if job.state is State.FAILED]
    if left:
        services.coordinator.drop_waiting([job.id for job in left])
        services.failpoints.hit("admit.dropped")
    sharing.stay(services, [job for job in left if job.following])
    if any(job.state is State.SUBMITTING for job in left):
        services.nudger.nudge(Step.START)
    for job in failed:
        services.metrics.ended.labels(job.state, job.cause or "").inc()
    if failed:
        services.nudger.nudge(Step.NOTIFY)


@contextmanager
def _turn(services: Services) -> Iterator[Lease | None]:
    owner = f"{services.owner}/{threading.get_ident()}"
    deadline = time.monotonic() + STEP_BUDGET_S
    while (lease := services.store.acquire_lease(LEASE_NAME, owner, ADMIT_LEASE_S)) is None and time.monotonic() < deadline:
        time.sleep(LEASE_RETRY_S)
    try:
        yield lease
    finally:
        if lease is not None:
            services.store.release_lease(lease)


def _kept(services: Services, lease: Lease, begun: float) -> Lease:
    """The lease, renewed after a long look; raises LeaseLost when somebody else has admitted meanwhile."""
    return services.store.renew_lease(lease, ADMIT_LEASE_S) if time.monotonic() - begun > ADMIT_LEASE_S / 3 else lease


def _jobs(services: Services, lines: Sequence[WaitingLine]) -> dict[str, Job]:
    """The jobs of the index; what is there and does not wait any more is taken out."""
    ids = [id for line in lines for id in line.ids]
    jobs = services.store.get(ids)
    waiting = {id: jobs[id] for id in ids if id in jobs and belongs(jobs[id])}
    if len(waiting) < len(ids):
        services.coordinator.drop_waiting(sorted({*ids} - {*waiting}))
    return waiting
