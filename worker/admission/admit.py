"""The step `admit`: the users who wait and the state of the engines in, records in `submitting` out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from worker.admission.decide import TRIED_AGAIN, Admit, Decision, EngineView, Wait, decide
from worker.admission.queue import belongs
from worker.admission.quotas import refused, size_of, too_large
from worker.admission.rates import crowded, spend_starts
from worker.admission.turns import Turns, holdings, moved, planned
from worker.jobs.directories import work_directory
from worker.jobs.model import Job, Transfer
from worker.jobs.states import Reason, State
from worker.jobs.tiers import Limits
from worker.limits import ASIDE_S, LEASE_S, STEP_BUDGET_S, SUBMIT_WINDOW_S
from worker.ports import Change, EngineSnapshot, Lease, Services, Step, WaitingJob, WaitingLine

LEASE_NAME = "admit"
LEASE_RETRY_S = 0.02


def admit(services: Services, limit: int) -> int:
    """Admit what may start, at most `limit` jobs; returns how many were admitted.

    One admission runs at a time, under a fenced lease; slots are derived from live records, so a crash leaks nothing.
    """
    with _turn(services) as lease:
        if lease is None:
            return 0
        now, limits = services.store.now(), services.tiers.fresh()
        held = holdings(services.store.slot_counts(), services.tiers)
        heads = services.coordinator.waiting_heads(limit, now, without=[user for user, had in held.items() if had.full])
        lines = planned(heads, held, services.tiers, limit)
        jobs = _jobs(services, lines)
        turns = Turns(lines, held, services.tiers)
        changes, aside = _sorted(services, jobs, turns, engine_views(services), limits, now)
        applied = services.store.apply(changes, lease) if changes else []
        if applied:
            services.failpoints.hit("admit.recorded")
        left = {a.job.id: a.job.state for a in applied if a.won and a.job is not None and a.job.state is not State.QUEUED}
    if left:
        services.coordinator.drop_waiting(list(left))
        services.failpoints.hit("admit.dropped")
        services.nudger.nudge(Step.START)
    if State.FAILED in left.values():
        services.nudger.nudge(Step.NOTIFY)
    if heads.users:
        services.coordinator.move_turns(moved(turns, heads, held, services.tiers, now))
    if aside:
        services.failpoints.hit("admit.aside")
        services.coordinator.add_waiting([WaitingJob.of(job, due) for job, due in aside])
    return len(left) + len(aside)


def engine_views(services: Services) -> dict[str, EngineView]:
    """Each configured engine as its owner saw it last, with the live count of the store."""
    snapshots, live = services.coordinator.snapshots(), services.store.engine_counts()
    return {name: _view(name, snapshots.get(name), live.get(name, 0), services) for name in services.engines}


@contextmanager
def _turn(services: Services) -> Iterator[Lease | None]:
    owner = f"{services.owner}/{threading.get_ident()}"
    deadline = time.monotonic() + STEP_BUDGET_S
    while (lease := services.store.acquire_lease(LEASE_NAME, owner, LEASE_S)) is None and time.monotonic() < deadline:
        time.sleep(LEASE_RETRY_S)
    try:
        yield lease
    finally:
        if lease is not None:
            services.store.release_lease(lease)


def _jobs(services: Services, lines: Sequence[WaitingLine]) -> dict[str, Job]:
    """The jobs of the index; what is there and does not wait any more is taken out."""
    ids = [id for line in lines for id in line.ids]
    jobs = services.store.get(ids)
    waiting = {id: jobs[id] for id in ids if id in jobs and belongs(jobs[id])}
    if len(waiting) < len(ids):
        services.coordinator.drop_waiting(sorted({*ids} - {*waiting}))
    return waiting


def _view(name: str, snapshot: EngineSnapshot | None, live: int, services: Services) -> EngineView:
    engine = services.engines[name]
    alive = snapshot is not None and snapshot.error is None
    ahead = snapshot.ahead if snapshot else 0
    return EngineView(name, engine.features, engine.slots + ahead, live, alive, snapshot.free_bytes if snapshot else None)


def _sorted(
    services: Services, jobs: Mapping[str, Job], turns: Turns, views: Mapping[str, EngineView], limits: Limits, now: float
) -> tuple[list[Change], list[tuple[Job, float]]]:
    """What is to be written, and the jobs that wait for something else than the room that is left, each until its time."""
    room, changes = dict(views), list[Change]()
    decided: list[tuple[Job, Decision]] = []
    while (id := turns.next()) is not None:
        job = jobs.get(id)
        if job is None:
            continue
        if refusal := too_large(size_of(job), limits.of(job.tier, job.user)):
            changes.append(Change(job, refused(job, refusal, services.clock.time())))
            continue
        decision = crowded(limits, room.values()) or decide(job, room, now)
        if isinstance(decision, Admit):
            turns.admitted()
            room[decision.engine] = replace(room[decision.engine], live=room[decision.engine].live + 1)
        decided.append((job, decision))
    without = spend_starts(services, [job for job, decision in decided if isinstance(decision, Admit)], now)
    spare = any(view.room for view in room.values())
    aside: list[tuple[Job, float]] = []
    for job, decision in decided:
        wait = without.get(job.id) or decision
        if isinstance(wait, Admit):
            changes.append(Change(job, _submitting(services, job, wait.engine, now)))
            continue
        if job.id in without:
            aside.append((job, wait.until or now))
        elif spare:
            aside.append((job, now + ASIDE_S))
        if job.reason is not wait.reason:
            changes.append(Change(job, _waiting(services, job, wait)))
    return changes, aside


def _submitting(services: Services, job: Job, engine: str, now: float) -> Job:
    kept = job.transfer if job.transfer and job.transfer.engine == engine else None
    directory = kept.directory if kept else work_directory(services.engines[engine].directory, job.id, engine)
    transfer = Transfer(job.id, engine, job.attempt, directory, now + SUBMIT_WINDOW_S)
    text = None if job.reason in TRIED_AGAIN else f"admitted to {engine}"  # it may come back many times
    return job.moved(State.SUBMITTING, services.clock.time(), text, transfer=transfer, reason=None)


def _waiting(services: Services, job: Job, wait: Wait) -> Job:
    return job.noted(services.clock.time(), reason=Reason(wait.reason))
