"""What became of it all, from what can be seen outside: the records, the files, the origin's counters, the notices."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.alone import PREFIX
from tests.chaos.fleet import BURST, PAIR, RATE
from tests.chaos.tokens import Disturbances, exceeded, starts
from tests.chaos.wishes import Wish
from tests.origin import Origin
from worker.jobs.model import Job
from worker.jobs.states import Cause, State

#: Jobs that are named with what is wrong with them.
NAMED_MAX = 20
#: In the timeline of a job whose engine was away for too long.
MOVED = "goes on at another engine"
#: What was served so short before an engine died may not have been on its disk.
SETTLED_S = 1.0


@dataclass
class Verdict:
    """The figures; the first block must be zero.

    Attributes:
        lost: promised by a door, and without a record or an end.
        failed: ended as `failed` although nothing is wrong with their source.
        twice: fetched from the first byte to the last once more though their engine had not died since, or with a second file.
        wrong: `done` with other bytes than those of the source, or with none.
        tokens_exceeded: starts of a tier beyond its start tokens.
        notices_missing, notices_out_of_order: jobs of which the outside was not told everything, or not in order.
        ends_again: fetched once more because their engine had died with what it had not written down.
        served_over_needed: bytes the origin gave over the bytes of what is done; `alone`: the same of the engines alone.
    """

    lost: int = 0
    failed: int = 0
    twice: int = 0
    wrong: int = 0
    tokens_exceeded: int = 0
    notices_missing: int = 0
    notices_out_of_order: int = 0
    jobs: dict[str, int] = field(default_factory=dict)
    ends_again: int = 0
    served_over_needed: float = 0.0
    alone: float = 0.0
    details: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """True when nothing is lost, twice, wrong or untold."""
        untold = self.notices_missing or self.notices_out_of_order
        return not (self.lost or self.failed or self.twice or self.wrong or self.tokens_exceeded or untold)

    def note(self, what: str, wish: Wish, why: str) -> None:
        """Name a job with what is wrong."""
        if len(self.details) < NAMED_MAX:
            self.details.append(f"{what}: {wish.key} {wish.id} ({wish.engine}, {wish.size} bytes): {why}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge(
    wishes: Sequence[Wish],
    jobs: Mapping[str, Job],
    origin: Origin,
    deaths: Mapping[str, Sequence[float]],
    channels: Mapping[str, Iterable[Mapping[str, Any]]],
    downloads: Path,
    disturbed: Disturbances | None = None,
) -> Verdict:
    """The verdict.

    Args:
        jobs: by id.
        deaths: when (monotonic clock) each engine died or was restarted.
        channels: all events that readers of the stream and receivers of webhooks were told, in their order.
        disturbed: what moved start tokens.
    """
    verdict = Verdict(jobs=dict(Counter(str(job.state) for job in jobs.values())))
    told = {channel: _by_job(notices) for channel, notices in channels.items()}
    ends = {path.rpartition("/")[2]: times for path, times in origin.ends.items()}
    served = {path.rpartition("/")[2]: count for path, count in origin.bytes_served.items()}
    wanted = Counter(wish.name() for wish in wishes)
    verdict.tokens_exceeded = exceeded(starts(jobs.values(), "free"), RATE, BURST, disturbed or Disturbances())
    for wish in wishes:
        job = jobs.get(wish.id)
        if job is None or not job.terminal:
            verdict.lost += 1
            verdict.note("lost", wish, f"promised {wish.promised}; {_story(job)}")
            continue
        _check_end(verdict, wish, job, downloads)
        if wish.hopeless and served.get(wish.name()):
            verdict.wrong += 1
            verdict.note("downloaded though it fits nowhere", wish, _story(job))
        if wish.like is None:  # whoever wanted the same may have fetched it for himself, when the others were done or gave up
            its = [death for engine in (PAIR if wish.anywhere else (wish.engine,)) for death in deaths.get(engine, ())]
            _check_ends(verdict, wish, job, ends.get(wish.name(), []), its, wanted[wish.name()] + moves(job))
        for channel, ids in told.items():
            _check_told(verdict, wish, job, channel, ids.get(job.id, []))
    verdict.served_over_needed = _ratio(origin, [wish for wish in wishes if wish.id in jobs and jobs[wish.id].state is State.DONE], "c")
    verdict.alone = _ratio(origin, [wish for wish in wishes if wish.to_be_had and wish.action != "cancel"], PREFIX)
    return verdict


def _check_end(verdict: Verdict, wish: Wish, job: Job, downloads: Path) -> None:
    if job.state is State.FAILED:
        expected = (wish.missing and job.cause is Cause.NOT_FOUND) or (wish.hopeless and job.cause is Cause.REFUSED)
        verdict.failed += not expected
        if not expected:
            verdict.note("failed", wish, _story(job))
        return
    if job.state is State.CANCELLED:
        if "cancel" not in wish.acted:
            verdict.wrong += 1
            verdict.note("cancelled though nobody asked", wish, _story(job))
        return
    files = [path for path in (downloads / job.id).rglob("*") if path.is_file()]
    if len(files) > 1:
        verdict.twice += 1
        verdict.note("twice", wish, f"{[path.name for path in files]}")
    if not files or job.result is None or hashlib.sha256(Path(job.result.path).read_bytes()).hexdigest() != wish.digest:
        verdict.wrong += 1
        verdict.note("wrong", wish, f"{[path.name for path in files]} {_story(job)}")


def _check_ends(verdict: Verdict, wish: Wish, job: Job, ends: Sequence[tuple[float, int]], deaths: Sequence[float], wanted: int) -> None:
    """One answer more from the first byte to the last than it is wanted: its engine lost all it had, or somebody fetched it twice."""
    whole = [at for at, start in ends if start == 0][wanted - 1 :]
    for first, again in pairwise(whole):
        if any(first - SETTLED_S <= death <= again for death in deaths):
            verdict.ends_again += 1
        else:
            verdict.twice += 1
            verdict.note("twice", wish, f"it was served a second time after {again - first:.1f} s; {_story(job)}")


def moves(job: Job) -> int:
    """How often it went on at another engine, because its own did not answer for long; whether that has ended it nobody knows then."""
    return sum(MOVED in event.text for event in job.events)


def _by_job(notices: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The ids of the events of each job, repeats left out."""
    told: dict[str, list[str]] = defaultdict(list)
    for notice in notices:
        if notice["id"] not in told[notice["job"]]:
            told[notice["job"]].append(notice["id"])
    return told


def _check_told(verdict: Verdict, wish: Wish, job: Job, channel: str, told: Sequence[str]) -> None:
    due = [f"{job.id}:{event.version}" for event in job.events if event.type]
    if missing := set(due) - set(told):
        verdict.notices_missing += 1
        verdict.note(f"not told by {channel}", wish, f"{sorted(missing)}")
    elif [id for id in told if id in due] != due:
        verdict.notices_out_of_order += 1
        verdict.note(f"told out of order by {channel}", wish, f"{told} for {due}")


def _ratio(origin: Origin, wishes: Sequence[Wish], prefix: str) -> float:
    """Bytes served over bytes needed."""
    served = {path.rpartition("/")[2]: count for path, count in origin.bytes_served.items()}
    needed = {wish.name(prefix): wish.size for wish in wishes}
    return round(sum(served.get(name, 0) for name in needed) / sum(needed.values()), 4) if needed else 0.0


def _story(job: Job | None) -> str:
    if job is None:
        return "no record"
    lines = [f"{event.at - job.created_at:+.1f} {event.text}" for event in job.events]
    return f"{job.state} cause={job.cause} attempt={job.attempt} want={job.want}: {' | '.join(lines)[-600:]}"
