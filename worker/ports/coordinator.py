"""What the processes share beside the records; all of it but the unread intake can be lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from worker.jobs.model import Job, Progress
from worker.jobs.tiers import Bucket
from worker.ports.snapshot import EngineSnapshot


@dataclass(frozen=True, slots=True)
class IntakeEntry:
    """One message of the intake stream. `body` is None when it could not be decoded."""

    id: str
    body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A place in the waiting index; larger priorities first, then the earlier `since` (wall clock).

    Attributes:
        due: store clock; it is in the index from the start, and at a head only from then on.
        tier: what its user's weight and limits are asked by.
    """

    id: str
    user: str
    priority: int
    since: float
    due: float = 0.0
    tier: str = "free"

    @staticmethod
    def of(job: Job, due: float = 0.0) -> WaitingJob:
        """The place of a queued job; not before `due`, nor before its own time."""
        return WaitingJob(job.id, job.user, job.priority, job.created_at, max(due, job.not_before), job.tier)


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """A user who waits.

    Attributes:
        tier: of the first of his jobs.
        turn: the user's clock, in seconds of one slot for each unit of weight; who is furthest behind is the next.
        size: how many of his jobs are due.
        ids: the first of them, by priority and age.
    """

    user: str
    tier: str
    turn: float
    size: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """Some of the users who wait, those furthest behind first, and how many there are in all."""

    users: int
    lines: tuple[WaitingLine, ...]


@dataclass(frozen=True, slots=True)
class TurnsMoved:
    """What an admission did to the turns.

    Attributes:
        at: store clock.
        steps: by how much the turns of those move on at once whose jobs were admitted.
        shares: by how much a second each user's turn moves on from now on: the slots it has, over its weight.
        pace: the same of the turn at which newcomers begin; all slots taken over the weights of all who take or want some.
        reached: the largest turn at which a job was admitted; newcomers begin behind it.
        before: slots taken before the admission; after: and now.
    """

    at: float
    steps: Mapping[str, float]
    shares: Mapping[str, float]
    pace: float
    reached: float
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Freed:
    """How many slots became free, and in how many seconds that was seen while somebody waited."""

    slots: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself.

    Attributes:
        version: its program and version, as `Valkey 8.1.1`.
        connections: of all clients, ours and others'.
        used_bytes: of memory.
    """

    version: str
    connections: int
    used_bytes: int


class StreamReset(Exception):
    """The place a reader asked for is gone from the event stream.

    Attributes:
        since: wall clock; list the jobs changed since then, and read on from `after`.
        after: the place to go on from.
    """

    def __init__(self, since: float, after: str) -> None:
        super().__init__("the place in the event stream is gone")
        self.since = since
        self.after = after


class Coordinator(Protocol):
    """Redis, as the steps use it. Everything but the unread intake may vanish at any time without harm.

    Calls raise `Transient` within seconds when Redis does not answer, but for `rest`.
    """

    def offer(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Append messages to the intake and wake a sweeper, up to 1,000 in one round trip.

        Raises:
            Rejected: a message is too long or no JSON, and none was appended; or the intake is full.
            Transient: some may have been appended.
        """

    def take_intake(self, consumer: str, limit: int) -> list[IntakeEntry]:
        """Unread messages for this consumer, and those another consumer left unacknowledged for `RECLAIM_S`, those first."""

    def ack_intake(self, ids: Sequence[str]) -> None:
        """Acknowledge and delete; idempotent."""

    def park_intake(self, entries: Sequence[IntakeEntry]) -> None:
        """Put messages aside that nobody can decode or deal with, bounded, and acknowledge them."""

    def intake_size(self) -> int:
        """Messages in the intake, read or not."""

    def parked_size(self) -> int:
        """Messages that were put aside and are still kept."""

    def begin(self, step: str, ids: Sequence[str], *, again: bool = False) -> dict[str, int]:
        """Note that a process begins to work on these, until `end`, for a day; one round trip.

        Returns:
            those that were begun before and not ended since, with how often: whoever began them died, or is at it still.
            They are noted once more only if `again`.
        """

    def end(self, step: str, ids: Sequence[str]) -> None:
        """Forget that these were begun, however often; idempotent."""

    def may_nudge(self, step: str) -> bool:
        """True for the first caller in 5 s, until `looked`."""

    def looked(self, step: str) -> None:
        """Called by a step before it looks, so that work that comes later sends a nudge again."""

    def remind(self, step: str, at: float) -> None:
        """Have the sweeper nudge a step at a time of the store's clock; of several times the earliest counts. May be lost."""

    def reminders(self, now: float) -> tuple[list[str], float | None]:
        """The steps whose time has come by `now` (store clock), which are forgotten with that, and the next time of others."""

    def wake(self, loop: str) -> None:
        """End a loop's `rest`, or its next one; several wakes end one rest. Loops are the engines' names and `SWEEPER`."""

    def rest(self, loop: str, timeout_s: float) -> bool:
        """Wait to be woken; false after the time-out, or when Redis is away. Never raises."""

    def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """True for one holder until `unclaim` or the time is over, which the holder extends by claiming again.

        Saves double work; correctness never rests on it.
        """

    def unclaim(self, name: str, holder: str) -> None:
        """Give a claim back; nothing happens when it is somebody else's."""

    def add_waiting(self, jobs: Sequence[WaitingJob]) -> None:
        """Put jobs in the waiting index, or move them to their new place; idempotent. The turn of a user who waits already stays."""

    def drop_waiting(self, ids: Sequence[str]) -> None:
        """Take jobs out of the waiting index; idempotent. A user with none left that is due has no turn any more."""

    def waiting_heads(self, limit: int, now: float, *, depth: int = 8, without: Collection[str] = ()) -> Heads:
        """The users whose turn is next, at most `limit`; users at the same turn by name. Looking moves no turn.

        Args:
            now: the store's clock.
            depth: ids of each user, or more while all together are not more than `limit`; none gives none.
            without: users who are passed over; they are in the number of all.
        """

    def move_turns(self, moved: TurnsMoved) -> None:
        """Move the turns on by the shares they had since the last call, then by the steps; and remember the new shares.

        A user who comes, or comes back, begins behind `reached` and the pace. Nobody is more than `TURN_BOUND_S` before or behind.
        """

    def freed_lately(self, now: float) -> Freed:
        """Slots that became free in the last ten minutes, by what `move_turns` was told."""

    def waiting_size(self) -> int:
        """Jobs in the index."""

    def waiting_place(self, id: str, user: str) -> int | None:
        """How many of the user's own jobs go before it; None when it is not in the index."""

    def take_tokens(self, asks: Sequence[Sequence[Bucket]], line_s: float = 0.0) -> list[float]:
        """Take one token of each bucket of an ask, all or none, ask after ask; one round trip.

        Time is the coordinator's own. A bucket that nobody knows is full, so losing all of them lets one burst through.

        Args:
            line_s: tell refused asks to come one after the other, as tokens come, at most so far ahead; 0 tells each when there is one.

        Returns:
            of each ask seconds to wait, 0 when its tokens are taken.
        """

    def tokens(self, asked: Sequence[Bucket]) -> list[float]:
        """What is in each bucket now; takes nothing."""

    def count_starts(self, more: int = 0) -> int:
        """Count so many starts of jobs, over all processes; returns how many there were before. Losing the count does no harm."""

    def put_progress(self, engine: str, rows: Mapping[str, Progress]) -> None:
        """Replace what is shown of an engine's jobs, for a minute."""

    def progress(self, ids_by_engine: Mapping[str, Sequence[str]]) -> dict[str, Progress]:
        """The last progress of jobs, where it is known."""

    def put_snapshot(self, snapshot: EngineSnapshot) -> bool:
        """Share what an engine's owner saw, for 15 s; false when nobody could see one of it before."""

    def snapshots(self) -> dict[str, EngineSnapshot]:
        """By engine; those that were not renewed in time are absent."""

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Append events to the stream in this order; the stream keeps about the last 100,000."""

    def read_events(self, after: str | None, limit: int, wait_s: float) -> tuple[list[Mapping[str, Any]], str]:
        """Events behind a place (None: from now on) and the new place; waits so long for the first of them, then there are none.

        Raises:
            Rejected: `after` is no place.
            StreamReset: the place is gone.
        """

    def put_advice(self, process: str, advice: Mapping[str, Any]) -> None:
        """Share what the advisor of a process found, in place of what it shared before; kept for an hour, of the newest 50 processes."""

    def advice(self) -> dict[str, Mapping[str, Any]]:
        """What the advisors found, by process."""

    def facts(self) -> ServerFacts:
        """What the server says of itself; raises Transient also when it does not tell us."""

    def ping(self) -> None:
        """Return when Redis answers; raise Transient otherwise."""

    def close(self) -> None:
        """Release the connections."""
