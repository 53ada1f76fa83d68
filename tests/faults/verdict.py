"""What must be true of a world once nothing goes wrong any more."""

from __future__ import annotations

from collections import Counter

from tests.faults.model import World
from tests.faults.witness import told_of
from worker.engines.fake import content_of
from worker.jobs.directories import WORK
from worker.jobs.model import Job
from worker.jobs.states import Action, Cause, State


def as_wished(world: World) -> None:
    """After some calm turns, nothing having been completed: what users were answered has come about."""
    for id, action in world.wishes.items():
        job = world.witness.jobs[id]
        if action is Action.CANCEL:
            world.witness.require(job.state is State.CANCELLED, f"was to be cancelled: {told_of(job)}")
        elif action is Action.PAUSE:
            paused = job.state is State.PAUSED or job.terminal or job.state is State.QUEUED or _has_finished(world, job)
            world.witness.require(paused, f"was to be paused: {told_of(job)}")
        elif action is not None:
            world.witness.require(job.state not in (State.PAUSED, State.CANCELLED), f"was to go on: {told_of(job)}")


def all_over(world: World) -> None:
    """After everybody had time to end: nothing is lost, done twice, left over or untold."""
    witness, jobs = world.witness, world.witness.jobs
    witness.require(world.accepted <= jobs.keys(), f"{world.accepted - jobs.keys()} were accepted and are not recorded")
    shown = {id: (job.state, job.version) for id, job in world.store.get(jobs).items()}
    witness.require(shown == {id: (job.state, job.version) for id, job in jobs.items()}, "the store shows something else than was written")
    for job in jobs.values():
        witness.require(job.terminal, f"has not ended: {told_of(job)}")
        typed = {event.version for event in job.events if event.type}
        witness.require(typed <= witness.told.get(job.id, {}).keys(), f"of {typed} untold: {told_of(job)}")
        _files(world, job)
    witness.require(not world.store.unsent(1), "the outbox is not empty")
    waiting, unread = world.redis.waiting_size(), world.redis.intake_size()
    witness.require((waiting, unread) == (0, 0), f"{waiting} wait and {unread} are unread")
    for engine in world.engines.values():
        left = [handle for handle, item in engine.shows().items() if item.transfer is not None]
        witness.require(not left, f"{left} are left at {engine.name}")


def _files(world: World, job: Job) -> None:
    content = content_of(job.source)
    found = [path for path in world.directory.glob("[ab]/*/**/*") if path.is_file() and WORK not in path.parts]
    copies = [path for path in found if path.read_bytes() == content and job.id in path.parts]
    right = [str(path) for path in copies] == ([job.result.path] if job.state is State.DONE and job.result else [])
    world.witness.require(right, f"delivered {[*map(str, copies)]}: {told_of(job)}")
    for path in world.directory.glob(f"[ab]/{WORK}/{job.id}*"):
        holders = world.witness.holding(path.name)
        kept = any(holder.state is State.FAILED and holder.cause is not Cause.CHECKSUM for holder in holders)
        world.witness.require(kept, f"left {path}: {told_of(job)}")
    _fetched_once(world, job, len(content))


def _fetched_once(world: World, job: Job, size: int) -> None:
    """Nobody asked for it again, and no engine had to begin it anew."""
    history = world.witness.history[job.id]
    engines = {past.transfer.engine for past in history if past.transfer}
    if len(engines) == 1 and not any(past.state in (State.FAILED, State.CANCELLED) for past in history):
        fetched = sum((engine.fetched for engine in world.engines.values()), Counter[str]())[job.source.uri]
        shared = [other for other in world.witness.jobs.values() if other.source == job.source]
        if len(shared) > 1 and any(_gave_up(world, other) for other in shared):
            return
        right = size <= fetched <= size * len(shared)
        world.witness.require(right, f"{fetched} bytes were fetched for {len(shared)} times {size}: {told_of(job)}")


def _gave_up(world: World, job: Job) -> bool:
    return any(past.state in (State.FAILED, State.CANCELLED) or past.attempt > 1 for past in world.witness.history[job.id])


def _has_finished(world: World, job: Job) -> bool:
    return any(past.state is State.FINISHING for past in world.witness.history[job.id])
