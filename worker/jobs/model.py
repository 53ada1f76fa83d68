"""The record of a job: frozen values, moved only by `Job.moved`, and their JSON form."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any
from urllib.parse import unquote

from worker.jobs.description import Description
from worker.jobs.events import Event, EventType, extended
from worker.jobs.hooks import Hook
from worker.jobs.probe import Probe
from worker.jobs.progress import Progress as Progress
from worker.jobs.source import Source as Source
from worker.jobs.source import SourceKind as SourceKind
from worker.jobs.states import TERMINAL, Cause, Phase, Reason, State, Want, check
from worker.jobs.transfer import Transfer as Transfer
from worker.jobs.tried import Tried


@dataclass(frozen=True, slots=True)
class Result:
    """Where the content is, or, while `finishing`, where it is about to be put.

    Attributes:
        path: a file, or the directory of a job with several files.
        size: bytes of all files.
        sha256: of the file, when it was asked for; None for several files.
    """

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a door was asked for, already validated (`worker.jobs.requests.parse`).

    Attributes:
        webhook: the receiver of its events that it names; the settings tell whether there is such a one.
        max_speed: bytes a second that it may take.
        document: the `.torrent` file that came with it; `description` is what it says.
    """

    source: Source
    user: str
    key: str | None = None
    tier: str = "free"
    priority: int = 0
    name: str | None = None
    out: str | None = None
    sha256: str | None = None
    hash_wanted: bool = False
    engine: str | None = None
    select: tuple[int, ...] = ()
    seed_ratio: float | None = None
    category: str | None = None
    guarded: bool = True
    webhook: str | None = None
    max_speed: int | None = None
    description: Description | None = None
    document: bytes | None = None

    @property
    def content(self) -> str:
        """Digest of what makes two requests under one key the same request."""
        same = (self.source.uri, self.name, self.out, self.sha256, self.select)
        return hashlib.sha256(repr(same).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Job:
    """One request on its way. Every change makes `version` one larger (`moved`, `noted`).

    Attributes:
        id: derived from (user, key); see `job_id`.
        content: `Request.content`; tells a repeated request from a conflict.
        out: the directory the machine's owner named, or None for a directory of the job's own.
        guarded: it may not reach private networks, except those the settings allow.
        attempt: 1, and one more for each retry; a new attempt has a new identity at the engine.
        description: of a torrent whose file was uploaded, or has been fetched.
        probe: what its source said of it, once it was asked.
        failures: automatic retries since the user last asked, or it got further (`tried.PROGRESS_BYTES`).
        not_before: store clock; not admitted earlier.
        sent: version of the last event told to the outside, by the event stream.
        hook: its webhook, if it has one.
        short_since: store clock; since when it has waited for space.
        follows: the transfer whose end it waits for, or waited for; empty when it is to go alone, for that one failed.
        handed: how often it gave a transfer away or was given one; names the next one of its own (`transfer.own_id`).
        max_speed: bytes a second that its download is held to; not that of a transfer it follows.
        avoid: engines that failed it since the user last asked; others go first.
        tried: what went wrong since the user last asked.
        phase_at: store clock; since when it has its phase.
        engine_deaths: engines that died soon after they were given it, since it last ran well; see `worker.jobs.suspects`.
        trial_s: how long it has to run before such a death is not laid to it any more, once it is tried apart from others.
        least: bytes on the disk that were not all of it when that was full; 0 when nobody knows such a number.
        claim: bytes kept for it from then on, while nobody knows its size.
        still_since: store clock; since when nothing has run on the disk it waits for, should others have to let go of it for this one.
    """

    id: str
    user: str
    key: str | None
    source: Source
    content: str
    tier: str = "free"
    priority: int = 0
    name: str | None = None
    out: str | None = None
    sha256: str | None = None
    hash_wanted: bool = False
    engine: str | None = None
    select: tuple[int, ...] = ()
    seed_ratio: float | None = None
    category: str | None = None
    guarded: bool = True
    description: Description | None = None
    probe: Probe | None = None
    state: State = State.QUEUED
    version: int = 1
    phase: Phase | None = None
    reason: Reason | None = Reason.TURN
    cause: Cause | None = None
    message: str | None = None
    want: Want = Want.RUN
    transfer: Transfer | None = None
    attempt: int = 1
    failures: int = 0
    not_before: float = 0.0
    progress: Progress = Progress()  # noqa: RUF009 - it is frozen
    result: Result | None = None
    seeding: bool = False
    events: tuple[Event, ...] = ()
    sent: int = 0
    hook: Hook | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    short_since: float | None = None
    follows: str | None = None
    handed: int = 0
    max_speed: int | None = None
    avoid: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()
    phase_at: float = 0.0
    engine_deaths: int = 0
    trial_s: float = 0.0
    least: int = 0
    claim: int = 0
    still_since: float | None = None

    @property
    def terminal(self) -> bool:
        """True when only `retry` moves it on."""
        return self.state in TERMINAL

    @property
    def needs_description(self) -> bool:
        """True while it waits for its `.torrent` file to be fetched; it is not admitted before."""
        return self.state is State.QUEUED and self.source.kind is SourceKind.TORRENT and self.description is None

    @property
    def at_attempt(self) -> bool:
        """True when its transfer is that of its present attempt, or one of another job that it only reads."""
        return self.transfer is not None and (self.transfer.attempt == self.attempt or self.transfer.size is not None)

    @property
    def following(self) -> str | None:
        """The transfer of another job that it waits for while it is `queued`; None when it waits for something else."""
        waits = self.state is State.QUEUED and self.reason is Reason.DUPLICATE and self.transfer is None
        return self.follows or None if waits else None

    @property
    def needs_v2(self) -> bool:
        """True when only an engine that speaks the second version of BitTorrent can fetch it."""
        if self.description is not None:
            return self.description.v1 is None
        return self.source.kind is SourceKind.MAGNET and "urn:btih:" not in unquote(self.source.uri)

    @property
    def has_v2(self) -> bool:
        """True for torrents that the second version of BitTorrent describes, alone or beside the first."""
        if self.description is not None:
            return self.description.v2 is not None
        return self.source.kind is SourceKind.MAGNET and "urn:btmh:" in unquote(self.source.uri)

    @property
    def unsent(self) -> tuple[Event, ...]:
        """Events the outside has not been told, oldest first."""
        return tuple(event for event in self.events if event.type and event.version > self.sent)

    @property
    def unposted(self) -> tuple[Event, ...]:
        """Events the receiver of its webhook has not been told, oldest first; none without a webhook."""
        return tuple(event for event in self.events if event.type and self.hook and event.version > self.hook.sent)

    @property
    def needs_owner(self) -> bool:
        """True when the owner of the job's engine has something to do that its poll will not show."""
        if self.state is State.SUBMITTING:
            return True
        if self.transfer is None or self.terminal:
            return False
        if self.state is State.PAUSED and self.reason is Reason.DUPLICATE:
            return True  # somebody waits for what it stopped
        settled = {Want.RUN: State.DOWNLOADING, Want.PAUSE: State.PAUSED}.get(self.want)
        if self.state is State.FINISHING:
            return self.want is Want.CANCEL
        if self.state is State.QUEUED:
            return self.want is Want.CANCEL
        return self.state is not settled

    def moved(
        self,
        to: State,
        at: float,
        text: str | None,
        *,
        event: EventType | None = None,
        data: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Job:
        """The job in state `to`, one version on, with a line in its timeline, or none without a text.

        Args:
            at: wall clock, for the timeline.
            changes: other fields to set.

        Raises:
            ValueError: the move is not in the table of `worker.jobs.states`.
        """
        check(self.state, to)
        return self.noted(at, text, event=event, data=data, state=to, short_since=None, still_since=None, **changes)

    def noted(
        self,
        at: float,
        text: str | None = None,
        *,
        event: EventType | None = None,
        data: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Job:
        """The job in the same state, one version on, with other fields set and, given a text, a line in its timeline."""
        told = min(self.sent, self.hook.sent) if self.hook else self.sent
        events = extended(self.events, Event(self.version + 1, at, text, event, data or {}), told) if text else self.events
        return Job(**{**self.values(), "version": self.version + 1, "updated_at": at, "events": events, **changes})

    def values(self) -> dict[str, Any]:
        """The fields by their names, in their order."""
        return dict(zip(_FIELDS, _values(self), strict=True))


_FIELDS = tuple(f.name for f in fields(Job))
#: All at once: the steps copy jobs by the thousand, and `dataclasses.replace` asks for the fields one by one.
_values = attrgetter(*_FIELDS)


def job_id(user: str, key: str | None) -> str:
    """The id of the job of (user, key): the same for the same pair; without a key a new one each time."""
    chosen, rest = ("key", key) if key is not None else ("random", secrets.token_hex(16))
    basis = f"{chosen}:{len(user)}:{user}:{rest}"  # with the length no user and key run into those of others
    return hashlib.sha256(basis.encode()).hexdigest()[:24]


def new_job(request: Request, at: float, id: str | None = None) -> Job:
    """A `queued` record for the request, with its first event; `id` for a request without a key that has one already."""
    copied = {f.name: getattr(request, f.name) for f in fields(Request) if f.name not in ("key", "user", "webhook", "document")}
    first = Event(1, at, "queued", EventType.QUEUED)
    return Job(
        id=id if id and request.key is None else job_id(request.user, request.key),
        user=request.user,
        key=request.key,
        content=request.content,
        events=(first,),
        created_at=at,
        updated_at=at,
        **copied,
    )
