"""One download for several jobs: who waits for it, who goes on with it, who takes the file.

A job that downloads holds a transfer. Jobs that ask for the same content follow that transfer, not its job, so that nobody has to be
told when it is handed over. Each effect is one compare-and-set of one record, and what a crash leaves between two is found:

    the file is in place     followers become guests: `finishing`, from the same work directory, each to a place of his own; then
                             the job is recorded `done`; its work directory goes with the last who reads it
    cancelled, or paused     a follower gets the transfer first, then the job lets go of it without a word to the engine; of two
                             holders the later one keeps it
    failed                   the followers wait for their turn again

Whoever begins to follow looks once more whether the transfer is still on its way; whoever ends one looks for followers after that is
recorded: one of the two sees the other. The sweep finds those that a crash left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker import logs, waiting
from worker.jobs.content import goes_on, leads, may_take_over, stands
from worker.jobs.events import EventType
from worker.jobs.model import Job, Transfer
from worker.jobs.states import IN_SLOT, LIVE, Cause, Reason, State, Want
from worker.limits import STEP_BATCH, SUBMIT_WINDOW_S
from worker.ports import Change, Lease, Services, Step

#: Batches of followers at one look; those behind them are found by the sweep.
BATCHES_MAX = 100
#: Followers that are tried as successors at one look.
SUCCESSORS_MAX = 20
#: What makes a job fail whatever its source holds: those that waited for it wait for the next one together.
OWN_CAUSES = frozenset({Cause.CHECKSUM, Cause.WORKER, Cause.DISK})

#: What is being finished goes on: its files are complete, and nobody takes them away while another holds the transfer.
OUTRANKABLE = LIVE - {State.FINISHING}

log = logs.get(__name__)


# ---- followers -------------------------------------------------------------------------------------------------


def followed(job: Job, transfer: str, at: float) -> Job:
    """A queued job that waits for a transfer of the same content."""
    return job.noted(at, "waits: the same content is downloaded for another request", reason=Reason.DUPLICATE, follows=transfer)


def asked(job: Job, at: float) -> Job:
    """A paused job that is to give its transfer to those who wait for it; the owner of its engine sees to that."""
    return job.noted(at, reason=Reason.DUPLICATE)


def _asked(job: Job) -> bool:
    return stands(job) and job.reason is Reason.DUPLICATE


def stay(services: Services, followers: Sequence[Job]) -> None:
    """Look once more, after they were recorded as followers: those whose transfer has come to its end meanwhile wait for their turn."""
    wanted = {job.follows for job in followers if job.follows}
    going = {_id(job) for job in services.store.holding(wanted) if leads(job) or _asked(job)} if wanted else set()
    _release(services, [job for job in followers if job.follows not in going], alone=False)


def mend(services: Services) -> int:
    """Let go on who waits for a transfer that is nobody's any more; returns how many jobs wait for one."""
    awaited = services.store.followed()
    going = {_id(job) for job in services.store.holding(awaited) if goes_on(job)} if awaited else set()
    _release_all(services, awaited.keys() - going, alone=False)
    return sum(awaited.values())


def _release(services: Services, followers: Sequence[Job], *, alone: bool) -> None:
    """Have followers wait for their turn again; `alone` has each download for himself, should that be to fail as well."""
    if not followers:
        return
    at, text = services.clock.time(), "the other download has ended; it waits for its turn"
    news = [job.noted(at, text, reason=Reason.TURN, follows="" if alone else None) for job in followers]
    applied = services.store.apply([Change(job, new) for job, new in zip(followers, news, strict=True)])
    services.failpoints.hit("share.released")
    released = [a.job for a in applied if a.won and a.job is not None]
    if released:
        services.metrics.shared.labels("released").inc(len(released))
        waiting.enlist(services, released)


# ---- the end of a transfer -------------------------------------------------------------------------------------


def join(services: Services, leaders: Iterable[Job]) -> None:
    """Make the followers of jobs whose files are in place guests of their work directories; idempotent."""
    of = {job.transfer.id: job for job in leaders if job.transfer is not None}
    for _ in range(BATCHES_MAX if of else 0):
        followers = services.store.following(of, STEP_BATCH)
        if not followers:
            return
        at = services.clock.time()
        applied = services.store.apply([Change(job, _guest(job, of[job.follows or ""], at)) for job in followers])
        services.metrics.shared.labels("joined").inc(sum(a.won for a in applied))
        services.failpoints.hit("share.joined", *(job.id for job in followers))
        services.nudger.nudge(Step.FINISH)


def _guest(job: Job, leader: Job, at: float) -> Job:
    assert leader.transfer is not None
    assert leader.result is not None, f"job {leader.id} has no result"
    transfer = replace(leader.transfer, size=leader.result.size)
    text = "the bytes are here, fetched for another request"
    return job.moved(
        State.FINISHING, at, text, reason=None, message=None, follows=None, handed=job.handed + 1, transfer=transfer, seeding=False
    )


def let_go(services: Services, ended: Sequence[tuple[Transfer, Job]]) -> frozenset[str]:
    """Do what is left for the followers of jobs whose end is recorded, each with the transfer it had.

    Returns:
        the ids of those transfers that other jobs still hold: their files, and what the engine has, are to stay.
    """
    ends = {transfer.id: (transfer, job) for transfer, job in ended}
    if not ends:
        return frozenset()
    join(services, [replace(job, transfer=transfer) for transfer, job in ends.values() if job.state is State.DONE])
    others = [id for id, (_, job) in ends.items() if job.state is not State.DONE]
    holders = services.store.holding(ends)
    mine = {job.id for _, job in ended}
    needed = frozenset(_id(job) for job in holders if job.id not in mine or not job.terminal)
    for id in others:
        job = ends[id][1]
        if id not in needed:
            _release_all(services, {id}, alone=job.state is State.FAILED and job.cause not in OWN_CAUSES)
    return needed


def _release_all(services: Services, transfers: Collection[str], *, alone: bool) -> None:
    for _ in range(BATCHES_MAX if transfers else 0):
        followers = services.store.following(transfers, STEP_BATCH)
        if not followers:
            return
        _release(services, followers, alone=alone)


# ---- hand-over -------------------------------------------------------------------------------------------------


def hand_over(services: Services, lease: Lease, leaders: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Give what jobs are to let go of (`want` is cancel or pause, or it was given away already) to one of those who wait for it.

    Call it as the owner of their engine. A follower has the transfer before its job lets go.

    Returns:
        the new holders, as they were written, and the jobs for which nothing else is to be done now.
    """
    holding = [job for job in leaders if job.transfer is not None]
    given = _given_away(services, holding)
    left = [job for job in holding if job.id not in given]
    followers = _followers(services, left)
    successors: dict[str, Job] = {}
    for job in left:
        if (successor := _successor(services, lease, job, followers.get(_id(job), ()))) is not None:
            successors[job.id] = successor
    if successors:
        services.failpoints.hit("share.handed", *successors)
        services.metrics.shared.labels("handed").inc(len(successors))
        for step in (Step.ADMIT, Step.FINISH):
            services.nudger.nudge(step)
    leaving = [job for job in holding if job.id in given or job.id in successors]
    at = services.clock.time()
    applied = services.store.apply([Change(job, _left(job, at)) for job in leaving], lease) if leaving else []
    if leaving:
        services.failpoints.hit("share.left", *(job.id for job in leaving))
        services.nudger.nudge(Step.NOTIFY)
    for done in applied:
        if done.won and done.job is not None and done.job.terminal:
            services.metrics.ended.labels(done.job.state, done.job.cause or "").inc()
    return list(successors.values()), leaving


def outranked(jobs: Iterable[Job]) -> list[Job]:
    """Of jobs that hold the same transfer, those that gave it away: a crash came before they could let go; pure."""
    last: dict[str, int] = {}
    own = [job for job in jobs if job.state in OUTRANKABLE and not _reads(job)]
    for job in own:
        last[_id(job)] = max(last.get(_id(job), 0), _turn(job))
    return [job for job in own if _turn(job) < last[_id(job)]]


def _given_away(services: Services, jobs: Sequence[Job]) -> set[str]:
    """The ids of those whose transfer another job holds by now: by a hand-over, or as a guest, whom the work directory is left to."""
    others: dict[str, list[Job]] = {}
    for holder in services.store.holding({_id(job) for job in jobs}) if jobs else ():
        if holder.state is not State.FAILED:
            others.setdefault(_id(holder), []).append(holder)
    leaving = {job.id for job in jobs}

    def keeps(other: Job, job: Job) -> bool:
        if other.id == job.id or _turn(other) != _turn(job):
            return _turn(other) > _turn(job)
        if not _reads(job):
            return _reads(other)
        return not _reads(other) or other.id not in leaving or other.id > job.id  # of guests that leave together the last one clears up

    return {job.id for job in jobs if any(keeps(other, job) for other in others.get(_id(job), ()))}


def _followers(services: Services, jobs: Sequence[Job]) -> Mapping[str, Sequence[Job]]:
    """By transfer; nearly always nobody follows any of them, which is one question."""
    ids = {_id(job) for job in jobs}
    if not ids or not services.store.following(ids, 1):
        return {}
    return {id: services.store.following([id], SUCCESSORS_MAX) for id in sorted(ids)}


def _successor(services: Services, lease: Lease, job: Job, followers: Sequence[Job]) -> Job | None:
    """The follower that has the job's transfer now; None when there is none that may, or none that still waits."""
    at, now = services.clock.time(), services.store.now()
    for follower in sorted(followers, key=lambda each: (-each.priority, each.created_at)):
        if may_take_over(follower, job):
            [applied] = services.store.apply([Change(follower, _succeeding(follower, job, at, now))], lease)
            if applied.won and applied.job is not None:
                return applied.job
    return None


def _succeeding(job: Job, leader: Job, at: float, now: float) -> Job:
    """The follower with the leader's transfer: where that is at work it goes on, else it waits for its turn with it."""
    assert leader.transfer is not None
    transfer = replace(leader.transfer, turn=leader.transfer.turn + 1)
    taken: dict[str, Any] = {
        "follows": None,
        "handed": job.handed + 1,
        "message": None,
        "attempt": leader.attempt,
        "failures": leader.failures,
        "avoid": leader.avoid,
        "tried": leader.tried,
    }
    text = "goes on with what was fetched for another request"
    if leader.state is State.FINISHING:
        transfer = replace(transfer, size=leader.progress.total)
        return job.moved(State.FINISHING, at, text, reason=None, transfer=transfer, seeding=leader.seeding, **taken)
    if leader.state in IN_SLOT:
        if leader.state is not State.SUBMITTING:  # a call that is under way ends within the window it has
            transfer = replace(transfer, submit_until=now + SUBMIT_WINDOW_S)
        return job.moved(State.SUBMITTING, at, text, reason=None, transfer=transfer, **taken)
    reason = leader.reason if leader.state is State.QUEUED else Reason.SLOTS
    return job.noted(at, text, reason=reason, transfer=transfer, not_before=leader.not_before, **taken)


def _left(job: Job, at: float) -> Job:
    """A job whose transfer is another's now, as its user wants it."""
    gone: dict[str, Any] = {"transfer": None, "handed": job.handed + 1, "phase": None}
    if job.want is Want.CANCEL:
        return job.moved(State.CANCELLED, at, "cancelled", event=EventType.CANCELLED, reason=None, **gone)
    if job.want is Want.PAUSE:
        if job.state is State.PAUSED:
            return job.noted(at, "its download goes on for another request", reason=None, **gone)
        return job.moved(State.PAUSED, at, "paused", event=EventType.PAUSED, reason=None, **gone)
    text = "its download goes on for another request, and it waits for that"
    return job.moved(State.QUEUED, at, text, reason=Reason.DUPLICATE, follows=_id(job), **gone)


def _id(job: Job) -> str:
    return job.transfer.id if job.transfer is not None else ""


def _turn(job: Job) -> int:
    return job.transfer.turn if job.transfer is not None else 0


def _reads(job: Job) -> bool:
    return job.transfer is not None and job.transfer.size is not None
