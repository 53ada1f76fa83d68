"""Every seam on one page: what the steps need from engines, store, Redis and the outside.

One contract suite in `tests/contract` holds each implementation, the fakes included, to these promises. All calls are
synchronous, bounded by a time-out of the implementation's own, and raise `Transient` when a service does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress, Source, SourceKind
from worker.jobs.states import Cause, Phase, Reason, State

if TYPE_CHECKING:
    from worker.failpoints import Failpoints
    from worker.metrics import Metrics
    from worker.settings import Settings

# ---- engines ---------------------------------------------------------------------------------------------------


class ItemStatus(StrEnum):
    """What an engine says of one transfer, in our words."""

    WAITING = "waiting"  # in the engine's own queue
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"  # all selected bytes are on disk and checked by the engine
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an engine gave up on a transfer, told apart by cause.

    Attributes:
        passing: trying again later may help.
        elsewhere: the engine is at fault, not the source; another engine may do.
        detail: the engine's words, without secrets.
        wait: nothing failed, and the order has to be given again later, for this reason.
    """

    cause: Cause
    passing: bool
    detail: str
    elsewhere: bool = False
    wait: Reason | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One transfer as an engine shows it, its descendants (metadata, then payload) summed up.

    Attributes:
        handle: the engine's name for (transfer, attempt); see `Engine.handle`.
        transfer: the transfer's id, read from its work directory; None when the item is not ours.
        phase: None unless running.
        fault: set exactly when `status` is FAILED.
    """

    handle: str
    status: ItemStatus
    transfer: str | None
    progress: Progress
    phase: Phase | None = None
    fault: Fault | None = None
    seeding: bool = False


@dataclass(frozen=True, slots=True)
class Poll:
    """One answer of an engine about everything it has.

    Attributes:
        session: changes when the engine was restarted.
        items: by handle. An item that is missing here is not at the engine.
        free_bytes: on the engine's volume, or None when it cannot be known.
        speed: bytes a second, all downloads.
    """

    session: str
    items: Mapping[str, Item]
    free_bytes: int | None
    speed: int


@dataclass(frozen=True, slots=True)
class Order:
    """What to submit. `directory` exists and belongs to this transfer on this engine alone.

    Attributes:
        document: the `.torrent` file of a source of kind TORRENT; the engine fetches none itself.
        select: numbers of files from 1, in the order of the torrent; empty means all.
        seed_ratio: seed until so much was uploaded; None or 0 does not seed.
        seed_time_s: seed no longer than this.
    """

    transfer: str
    attempt: int
    source: Source
    directory: str
    name: str | None = None
    select: tuple[int, ...] = ()
    seed_ratio: float | None = None
    category: str | None = None
    document: bytes | None = None
    seed_time_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Features:
    """What an engine can do; differences are declared, never guessed from its name.

    Attributes:
        bittorrent_v2: it fetches torrents that have no description of the first version.
        files_max: it is not fit for torrents of more files.
    """

    kinds: frozenset[SourceKind]
    selects_files: bool = False
    seeds: bool = False
    bittorrent_v2: bool = False
    files_max: int | None = None

    def beyond(self, job: Job) -> str | None:
        """What about the job is beyond the engine, in words that go on from "it cannot fetch"; None when it can."""
        if job.source.kind not in self.kinds:
            return f"{job.source.kind} sources"
        if job.needs_v2 and not self.bittorrent_v2:
            return "torrents of version 2 alone"
        files = len(job.select) or (job.description.files if job.description else 0)
        if self.files_max is not None and files > self.files_max:
            return f"torrents of more than {self.files_max} files"
        return None


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a complete transfer.

    Attributes:
        path: absolute, inside the transfer's work directory.
        size: bytes the engine says it has.
    """

    path: str
    size: int


class Engine(Protocol):
    """A download program under our control. Every call answers within `rpc_timeout_s` or raises `Transient`.

    An adapter never retries by itself and keeps no record of jobs: what it knows is asked from the engine.
    """

    name: str
    slots: int
    directory: str
    features: Features
    rpc_timeout_s: float

    def handle(self, transfer: str, attempt: int) -> str:
        """The engine's name for an attempt at a transfer; pure, the same in every process."""

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        """Make the engine have and run each order; one answer an order, None for success.

        Idempotent by (transfer, attempt): an item that is there already is adopted, and resumed if it was paused.
        What lies in the directory is continued. A fault of one order does not touch the others.

        Raises:
            Transient: the engine did not answer; any of the orders may or may not be there.
        """

    def poll(self) -> Poll:
        """Everything the engine has, in one call, however many transfers there are."""

    def pause(self, handles: Sequence[str]) -> None:
        """Ask the engine to stop each; idempotent; unknown handles are ignored. `poll` shows when it is true."""

    def remove(self, handles: Sequence[str]) -> list[str]:
        """Remove each with all its descendants, then ask again; the files stay.

        Returns:
            the handles the engine no longer knows. Idempotent: an unknown handle is one of them.
        """

    def files(self, handle: str) -> list[FoundFile]:
        """The files of a transfer the engine shows COMPLETE, selected ones only.

        Raises:
            Failed: cause INCOMPLETE when the engine does not know it or it is not complete.
        """

    def close(self) -> None:
        """Release the connections; the engine goes on."""


# ---- store -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act for `name` until `until` (store clock); `token` grows with each new holder."""

    name: str
    owner: str
    token: int
    until: float


@dataclass(frozen=True, slots=True)
class Change:
    """A compare-and-set: `new` replaces `old` if the record still has the state and version of `old`."""

    old: Job
    new: Job


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one change.

    Attributes:
        won: the record now is `job`, which is the change's `new`.
        job: the record as it is now; None when there is none.
    """

    won: bool
    job: Job | None


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of one new record: `created`, or the one that was there under its id."""

    created: bool
    job: Job


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None means any."""

    user: str | None = None
    states: tuple[State, ...] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first, and the cursor of the next page (None at the end)."""

    jobs: tuple[Job, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the run ledger: one slot of one scheduled job."""

    name: str
    slot: str
    owner: str
    started_at: float
    ended_at: float | None = None
    ok: bool | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


class JobStore(Protocol):
    """The records. One job is one document and every change to it one write.

    A write that returned is durable. Results of a batch are given one by one, in order; one failure fails alone.
    """

    def now(self) -> float:
        """Seconds on the store's own clock, which no change of a wall clock moves; for leases and time limits."""

    def insert(self, jobs: Sequence[Job]) -> list[Inserted]:
        """Record each job unless its id is known; idempotent."""

    def get(self, ids: Iterable[str]) -> dict[str, Job]:
        """The jobs of these ids; unknown ids are absent."""

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        """Make each change that still holds; `progress` and `hook` are not touched.

        Raises:
            LeaseLost: `lease` was given and is not current; nothing was changed.
        """

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """Set the progress of jobs that are not terminal; versions stay. Raises LeaseLost as `apply` does."""

    def at_engine(self, engine: str) -> list[Job]:
        """Jobs whose transfer is on this engine and that are not terminal, or `done` and seeding there."""

    def needing_owner(self, engine: str, limit: int) -> list[Job]:
        """Jobs on this engine for which `Job.needs_owner` holds, oldest change first."""

    def in_state(self, state: State, limit: int, *, after: str | None = None) -> list[Job]:
        """Jobs in a state in the order of their ids, those with an id after `after`."""

    def undescribed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """Jobs for which `Job.needs_description` holds, in the order of their ids, those with an id after `after`."""

    def unsent(self, limit: int) -> list[Job]:
        """Jobs with events the outside has not been told, those that changed first before the others."""

    def mark_sent(self, sent: Mapping[str, int]) -> None:
        """Raise `Job.sent` to the given version; lower values change nothing; the job's version stays."""

    def unposted(self, receiver: str, now: float, limit: int) -> list[Job]:
        """Jobs with events this receiver (`Hook.receiver`) has not been told, whose `not_before` is reached by `now` (store clock).

        Those never put off come first, in the order they changed, then those that are due for longest.
        """

    def mark_posted(self, marks: Mapping[str, Hook]) -> None:
        """Move `Job.hook` on; a mark whose (`sent`, `failures`) is not larger changes nothing; the job's version stays."""

    def page(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        """Jobs newest first; the cursor is opaque and stays valid while jobs are added and changed.

        Raises:
            Rejected: the cursor is not one of ours.
        """

    def counts(self, states: Iterable[State] | None = None) -> dict[State, int]:
        """How many jobs are in each of the states (None: in every one); absent states have none."""

    def keep_torrent(self, document: bytes) -> str:
        """Keep a `.torrent` file, once however often it is given; returns its name, `Description.document`."""

    def torrents(self, names: Iterable[str]) -> dict[str, bytes]:
        """The `.torrent` files kept under these names; unknown names are absent."""

    def engine_counts(self) -> dict[str, int]:
        """How many jobs take a slot on each engine (`states.IN_SLOT`)."""

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """The lease if it is free, has run out, or is the owner's already; a new token unless it is the owner's already.

        When it returns a lease no write under an older token of this name succeeds any more.
        """

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """The same lease with a later end. Raises LeaseLost when somebody else holds it."""

    def release_lease(self, lease: Lease) -> None:
        """Let go at once; nothing happens when it is no longer ours."""

    def claim_run(self, name: str, slot: str, owner: str) -> bool:
        """Take a slot of a scheduled job; true for exactly one caller, ever."""

    def end_run(self, name: str, slot: str, *, ok: bool, report: Mapping[str, Any]) -> None:
        """Write down how a claimed slot went."""

    def runs(self, name: str | None, limit: int) -> list[Run]:
        """The ledger, newest first."""

    def keep_runs(self, runs: Sequence[Run]) -> None:
        """Write down runs of another store as they are, oldest first; those whose slot is known stay as they are."""

    def ping(self) -> None:
        """Return when the store answers; raise Transient otherwise."""

    def close(self) -> None:
        """Release the connections."""


# ---- coordination ----------------------------------------------------------------------------------------------


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
    """

    id: str
    user: str
    priority: int
    since: float
    due: float = 0.0

    @staticmethod
    def of(job: Job, due: float = 0.0) -> WaitingJob:
        """The place of a queued job; not before `due`, nor before its own time."""
        return WaitingJob(job.id, job.user, job.priority, job.created_at, max(due, job.not_before))


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """What an engine's owner saw last, shared with every process for `SNAPSHOT_TTL_S`.

    Attributes:
        foreign: how many of the items are not ours; they are left alone.
    """

    name: str
    slots: int
    kinds: tuple[str, ...]
    directory: str
    free_bytes: int | None
    speed: int
    items: int
    ahead: int
    at: float
    owner: str
    error: str | None = None
    foreign: int = 0


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
    """Redis, as the steps use it. Everything but the unread intake may vanish at any time without harm."""

    def offer(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Append messages to the intake and wake a sweeper, in one round trip."""

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
        """Put jobs in the waiting index; idempotent."""

    def drop_waiting(self, ids: Sequence[str]) -> None:
        """Take jobs out of the waiting index; idempotent."""

    def waiting_heads(self, limit: int, now: float) -> list[str]:
        """At most `limit` ids of jobs that are due, the first of each user's queue in turn, then the second of each, …

        Args:
            now: the store's clock.
        """

    def waiting_size(self) -> int:
        """Jobs in the index."""

    def waiting_place(self, id: str, user: str) -> int | None:
        """How many of the user's own jobs go before it; None when it is not in the index."""

    def put_progress(self, engine: str, rows: Mapping[str, Progress]) -> None:
        """Replace what is shown of an engine's jobs."""

    def progress(self, ids_by_engine: Mapping[str, Sequence[str]]) -> dict[str, Progress]:
        """The last progress of jobs, where it is known."""

    def put_snapshot(self, snapshot: EngineSnapshot) -> bool:
        """Share what an engine's owner saw; false when nobody could see one of it before."""

    def snapshots(self) -> dict[str, EngineSnapshot]:
        """By engine; those that were not renewed in time are absent."""

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Append events to the stream in this order; the stream keeps about the last 100,000."""

    def read_events(self, after: str | None, limit: int, wait_s: float) -> tuple[list[Mapping[str, Any]], str]:
        """Events behind a place (None: from now on) and the new place.

        Raises:
            StreamReset: the place is gone.
        """

    def ping(self) -> None:
        """Return when Redis answers; raise Transient otherwise."""

    def close(self) -> None:
        """Release the connections."""


# ---- the rest --------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The wall clock, for people and timelines only."""

    def time(self) -> float:
        """Seconds since the epoch."""


class Step(StrEnum):
    """The short pieces of work; each is idempotent, found by a sweep, and a Celery task."""

    INTAKE = "intake"
    DESCRIBE = "describe"
    ADMIT = "admit"
    START = "start"
    FINISH = "finish"
    NOTIFY = "notify"
    WEBHOOK = "webhook"


#: The name under which a supervisor's sweeper rests: `Coordinator.wake(SWEEPER)` makes one look for work of every step.
SWEEPER = "sweeper"


class Nudger(Protocol):
    """Tells a step, somewhere, to look. May be lost; never raises."""

    def nudge(self, step: Step) -> None:
        """Send a nudge unless one is pending."""


class Notifier(Protocol):
    """Tells the outside; at least once, in order per job."""

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Return when all were taken over; raise Transient otherwise."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a process works with; built once, in `worker.wiring`, and passed along."""

    settings: Settings
    store: JobStore
    coordinator: Coordinator
    engines: Mapping[str, Engine]
    nudger: Nudger
    notifier: Notifier
    clock: Clock
    metrics: Metrics
    failpoints: Failpoints
    owner: str

    def close(self) -> None:
        """Release every connection; the engines go on."""
        for engine in self.engines.values():
            engine.close()
        self.coordinator.close()
        self.store.close()
