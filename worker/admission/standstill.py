"""A disk at a standstill: nothing runs there, and all who wait for its room hold it among them, so that none of them can go on.

Then the bytes of one job go, so that another can go on. Whose follows from when they were asked for, which never changes:

    for anyone            what failed ones left behind for another try, the last one's first
    for an older one      what younger ones hold, the youngest's first, if it fits then
    for a younger one     if nothing else helps: what an older one holds that would not fit though all the others were away, for
                          finished files, paused jobs or the files of others have the room. Whoever is to take those away is waited
                          for longer. Of unknown size it had all the room there is: it has failed; else it waits for what it needs

Nobody lets go unless one fits in the end. Who does keeps his place, and begins anew when there is room. One at a time, after the
standstill has lasted for `space_patience_s` by the store's clock: since admission saw it first, which is on the record of the one that
is to go on, and is forgotten when anything runs there; and the next one not before those bytes are deleted. What users paused is not
touched. Where nothing helps all wait, and are told for what.

Why this ends: a job that let go comes back only to more room than it had (`Job.least`) or, where its size is known, to enough, so only
older ones can have it let go again; the oldest never does but to wait for somebody outside, or to fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import Cause, State
from worker.notation.sizes import size_text

#: The order of what failed ones left behind, after all who wait, and what they take: they are not there to go on.
LAST, NEVER = float("inf"), 2**62


@dataclass(frozen=True, slots=True)
class Waiter:
    """A job that waits for room on a volume; bytes.

    Attributes:
        asked: when it was asked for; its id tells two of one moment apart.
        takes: from the start, or more than that where nobody knows.
        held: of these, on the volume already.
        sized: its size is known.
    """

    id: str
    asked: float
    takes: int
    held: int = 0
    sized: bool = True

    @property
    def order(self) -> tuple[float, str]:
        """The one with the lower order is the older."""
        return self.asked, self.id


@dataclass(frozen=True, slots=True)
class Way:
    """Who lets go of its bytes, and for whom."""

    giver: Waiter
    other: Waiter

    @property
    def for_younger(self) -> bool:
        """Whether somebody outside could help the giver, and is to be waited for longer."""
        return self.giver.order < self.other.order

    @property
    def final(self) -> bool:
        """Whether the giver had all the room there is, and nobody knows whether any would do."""
        return self.for_younger and not self.giver.sized


def way_out(waiters: Sequence[Waiter], room: int) -> Way | None:
    """What ends a standstill; None when nobody can be helped. Pure.

    Args:
        waiters: none of them can start. Whoever needs no more room than there is waits for something else, and is left alone.
        room: bytes that are free there and not promised; may be below 0.
    """
    holders = [waiter for waiter in waiters if waiter.held]
    most = room + sum(holder.held for holder in holders)
    hopeless = [holder for holder in holders if holder.takes > most]
    short = [waiter for waiter in waiters if waiter.takes - waiter.held > room]
    ranked = sorted(short, key=lambda waiter: (not waiter.held, waiter.order))  # who has begun goes first: less is lost
    for one in ranked:
        younger = [holder for holder in holders if holder.order > one.order]
        if one.takes - one.held <= room + sum(holder.held for holder in younger):
            return Way(max(younger, key=lambda holder: (holder in hopeless, holder.order)), one)
    for one in ranked:
        older = [holder for holder in hopeless if holder.order < one.order]
        others = [holder for holder in holders if holder.order > one.order or holder in older]
        if one.takes - one.held <= room + sum(holder.held for holder in others):
            return Way(max(older, key=lambda holder: holder.order), one)
    return None


def filled(job: Job, held: int, text: str, at: float) -> Job:
    """A job of unknown size that had all the room there was; asked for again, it waits for more."""
    data = {"cause": str(Cause.DISK), "reason": text}
    gone: dict[str, Any] = {"transfer": None, "handed": job.handed + 1, "least": max(job.least, held), "claim": 0}
    return job.moved(
        State.FAILED, at, f"failed: {text}", event=EventType.FAILED, data=data, cause=Cause.DISK, reason=None, message=text, **gone
    )


def let_go(job: Job, held: int, at: float, now: float) -> Job:
    """A job that waits, or has failed, without the bytes that were fetched of it; they are deleted by the owner of its engine."""
    text = f"lets go of the {size_text(held)} fetched of it, for nothing on the disk could go on"
    if job.terminal:
        return job.noted(at, f"{text}; another try begins anew", transfer=None, handed=job.handed + 1)
    text += "; it begins anew when there is room"
    return job.noted(at, text, transfer=None, handed=job.handed + 1, least=max(job.least, held), claim=0, short_since=now)
