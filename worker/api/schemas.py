"""What comes in by HTTP and what goes out, as `/docs` shows it; unknown members of a request are refused by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.breaker import Circuit
from worker.jobs.model import SourceKind
from worker.jobs.states import Cause, Phase, Reason, State, Want

PAGE_MAX = 200


#: The first wrong number of a hundred thousand will do.
FileNumbers = Annotated[list[int], Field(fail_fast=True)]


class JobSpec(BaseModel):
    """A download to be made. `worker.jobs.requests` checks the values."""

    model_config = ConfigDict(extra="forbid", strict=True)

    uri: str | None = Field(
        default=None, description="http, https, ftp or magnet; the path of a torrent or metalink ends in .torrent, .metalink or .meta4"
    )
    torrent: str | None = Field(default=None, description="a .torrent file in base64, in place of `uri`")
    user: str | int = Field(description="who asks; jobs take turns by user")
    key: str | int | None = Field(default=None, description="your own name for the request: asked for again, it is the same job")
    tier: str | None = None
    priority: int | None = Field(default=None, description="larger goes first among the user's own jobs")
    name: str | None = Field(default=None, description="a bare file name")
    sha256: str | None = None
    hash: bool | None = Field(default=None, description="compute the SHA-256 of the file")
    engine: str | None = None
    select: str | FileNumbers | None = Field(default=None, description="file numbers of a torrent from 1, or a text like 1,3-5")
    seed_ratio: float | None = None
    category: str | None = None
    max_speed: int | str | None = Field(default=None, description="bytes a second that it may take, or a text such as 2 MiB")
    webhook: str | None = Field(default=None, description="where its events are posted: one of the operator's addresses; else the first")


class JobsQuery(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = None
    state: list[State] = Field(default=[], description="may be given several times")
    cursor: str | None = Field(default=None, description="`cursor` of the page before")
    limit: int = Field(default=50, ge=1, le=PAGE_MAX)


class LimitsQuery(BaseModel):
    """Whose limits."""

    model_config = ConfigDict(extra="forbid")

    tier: str | None = Field(default=None, description="the user's; else that of his newest job")


class DrainQuery(BaseModel):
    """What becomes of what runs on an engine that is drained."""

    model_config = ConfigDict(extra="forbid")

    move: bool = Field(default=False, description="other engines fetch what it downloads, from the first byte; else it goes on to its end")


class EventsQuery(BaseModel):
    """Which events to watch."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = None


class TimelineEntry(BaseModel):
    """A line of a job's timeline."""

    at: float
    text: str
    type: str | None


class JobView(BaseModel):
    """A job. Bytes, bytes a second, seconds since the epoch; the source is shown without its secrets."""

    id: str
    user: str
    key: str | None
    state: State
    phase: Phase | None
    reason: Reason | None
    cause: Cause | None
    message: str | None
    want: Want
    source: str
    kind: SourceKind
    name: str | None
    infohash: str | None = Field(description="of a torrent whose .torrent file is known: of version 1, else of version 2")
    files: int | None = Field(description="how many a torrent has, selected or not")
    tier: str
    priority: int
    max_speed: int | None = Field(description="bytes a second that it may take")
    engine: str | None
    attempt: int
    done_bytes: int
    total_bytes: int | None
    speed: int
    eta_s: float | None
    path: str | None
    size: int | None
    sha256: str | None
    seeding: bool
    webhook: str | None = Field(description="host that its events are posted to")
    created_at: float
    updated_at: float
    version: int
    timeline: list[TimelineEntry]


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    cursor: str | None = Field(description="give it back for the next page; null at the end")


class WhyView(BaseModel):
    """Why a job is where it is."""

    id: str
    state: State
    text: str
    reason: str | None
    ahead: int | None = Field(description="how many of the user's own jobs go first")
    retry_in_s: float | None
    place: int | None = Field(description="about how many-th it is to start, from 1")
    of: int | None = Field(description="how many jobs wait")
    wait_s: float | None = Field(description="about how long until it starts; null when no slot became free lately, or other things decide")


class EngineView(BaseModel):
    """An engine by what its owner saw last; null is what is not known."""

    name: str
    up: bool
    error: str | None
    kinds: list[str]
    slots: int
    live: int = Field(description="slots taken by jobs")
    speed: int | None
    limit: int | None = Field(description="bytes a second that its downloads are held to; null when none")
    free_bytes: int | None
    items: int | None = Field(description="everything it has, whoever gave it")
    foreign: int | None = Field(description="items that are not ours; they are left alone")
    owner: str | None
    breaker: Circuit | None = Field(description="closed: it is given jobs; open: none; half-open: one, to show that it works")
    trouble: str | None = Field(description="why it is not given jobs, or one only, in words that go on from its name")
    state: Literal["up", "away", "draining", "drained"] = Field(description="drained: it is given nothing new, and nothing runs there")
    move: bool = Field(description="what it downloads goes to other engines")
    leaving: bool = Field(description="it is not set up any more, and goes when nothing runs there")
    weight: int = Field(description="its part of what engines share, compared with the others'")
    running: int = Field(description="jobs that need it until they have ended: what is handed over, downloaded and put in place")
    waiting: int | None = Field(description="our items in its own queue")
    finishing: int
    paused: int
    seeding: int
    version: str | None


class EngineList(BaseModel):
    """Every engine."""

    engines: list[EngineView]


class WaitingUser(BaseModel):
    """A user who has jobs waiting."""

    user: str
    tier: str
    weight: float = Field(description="share of the slots, compared with the others")
    waiting: int
    slots: int = Field(description="jobs that run")
    running_max: int | None = Field(description="jobs that may run at once")


class QueueView(EngineList):
    """What runs and waits."""

    jobs: dict[State, int]
    waiting: int = Field(description="jobs in the waiting index")
    intake: int = Field(description="messages of bots that are not yet recorded")
    parked: int = Field(description="messages put aside that nobody could decode or deal with, the newest 1,000")
    waiting_users: int = Field(description="users who have jobs waiting")
    users: list[WaitingUser] = Field(description="the first 50 of them, those furthest behind in turn first")
    starts_per_minute: float | None = Field(description="slots that became free lately while somebody waited; null when none did")


class LimitValues(BaseModel):
    """The limits of a user; null is none. Bytes, and a second where it says so."""

    rate: float | None = Field(description="starts a second, all users of the tier together")
    burst: float
    running: int | None
    queued: int | None
    weight: int
    bytes_a_day: int | None
    largest_file: int | None
    bandwidth: int | None
    requests: float | None = Field(description="requests a second")
    requests_burst: float


class BucketView(BaseModel):
    """A token bucket; null is what is not known without Redis."""

    bucket: str
    tokens: float | None
    burst: float
    rate: float = Field(description="tokens a second")
    full_in_s: float | None


class LimitsView(BaseModel):
    """What a user may have and has."""

    user: str
    tier: str
    limits: LimitValues
    requests: list[BucketView] = Field(description="a request takes a token of each")
    starts: list[BucketView] = Field(description="a start takes a token of each")
    running: int
    queued: int
    bytes_today: int = Field(description="of the jobs asked for since midnight")
    day_ends_in_s: float
    next_request_in_s: float | None = Field(description="0 is now")
    next_start_in_s: float | None
    refusal: str | None = Field(description="why a request would be refused now, whatever it asks for")
    fault: str | None = Field(description="why the limits that the operator wrote last are not in force")


class BandwidthSpec(BaseModel):
    """A budget for all engines."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schedule: str | None = Field(description="such as 50 MiB; Mon-Fri 08:00-18:00 10 MiB; null takes back what was set")


class EngineShare(BaseModel):
    """What an engine has of the budget, bytes a second; null is no limit, or not known."""

    name: str
    weight: int
    up: bool
    share: int | None = Field(description="what it is to take")
    told: int | None = Field(description="what it was told, so that it takes that")
    limit: int | None = Field(description="what it shows, asked again")
    speed: int | None
    unheld: int | None = Field(description="downloads that do not show the limit of their own they were given")


class SharedBudget(BaseModel):
    """The bandwidth of a tier or a user, bytes a second."""

    budget: str = Field(description="tier:NAME or user:NAME")
    rate: int
    running: int = Field(description="downloads that share it")
    speed: int


class BandwidthView(BaseModel):
    """The budget of all engines, bytes a second; null is no limit."""

    schedule: str | None
    from_: str | None = Field(alias="from", description="run time or settings")
    timezone: str
    now: str
    rate: int | None
    next_at: str | None = Field(description="when the rate changes")
    next_rate: int | None
    speed: int = Field(description="what all engines take")
    in_force: bool = Field(description="every engine that answers goes by it and shows the limit it was given")
    engines: list[EngineShare]
    budgets: list[SharedBudget]
    fault: str | None = Field(description="why the limits that the operator wrote last are not in force")
