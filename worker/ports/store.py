"""The records, and the leases that are kept beside them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.breaker import Breaker
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.ports.figures import Promised, Usage
from worker.ports.ledger import Ledger
from worker.ports.torrents import Torrents

#: What the names of leases of engines begin with; the engine's follows.
ENGINE_LEASE = "engine:"


def new_mark() -> str:
    """A name for one write, as no other has."""
    return secrets.token_hex(12)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act for `name` until `until` (store clock); `token` grows with each new holder."""

    name: str
    owner: str
    token: int
    until: float

    @property
    def engine(self) -> str | None:
        """The engine that is owned under it; None when it is of something else."""
        return self.name.removeprefix(ENGINE_LEASE) if self.name.startswith(ENGINE_LEASE) else None


@dataclass(frozen=True, slots=True)
class Change:
    """A compare-and-set: `new` replaces `old` if the record still has the state and version of `old`."""

    old: Job
    new: Job
    #: Names this change: made again, because an answer was lost, it is known to have won. 12 bytes in hexadecimal.
    mark: str = field(default_factory=new_mark, compare=False, repr=False)


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
class Drain:
    """That an engine is given nothing new.

    Attributes:
        move: what it downloads goes to other engines; else it goes on to its end there.
        since: wall clock.
    """

    move: bool = False
    since: float = 0.0


class JobStore(Ledger, Torrents, Protocol):
    """The records. One job is one document and every change to it one write.

    A write that returned is durable. Results of a batch are given one by one, in order; one failure fails alone.
    """

    def now(self) -> float:
        """Seconds on the store's own clock, which no change of a wall clock moves; for leases and time limits."""

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:
        """Record each job unless its id is known; idempotent.

        Args:
            marks: of each job a name for its write (`new_mark`). Called again with it after `Transient`, this answers
                `created` for what the first call did record.

        Raises:
            Rejected: a job cannot be written down, as when it is larger than `limits.RECORD_BYTES_MAX`.
        """

    def get(self, ids: Iterable[str]) -> dict[str, Job]:
        """The jobs of these ids; unknown ids are absent."""

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        """Make each change that still holds; `progress` and `hook` are not touched.

        The same `Change` made again after `Transient` has won when the first call did make it.

        Raises:
            Rejected: as `insert`.
            LeaseLost: `lease` was given and is not current; nothing was changed.
        """

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """Set the progress of jobs that are not terminal; versions stay. Raises LeaseLost as `apply` does.

        Under the lease of an engine only that of jobs whose transfer is there: an owner that is late says nothing of those that went on
        elsewhere.

        A store that batches writes may keep it back for a moment (`batching`): this process sees it at once, others before
        they see any later change of the job; after a crash the last of it may be missing.
        """

    def at_engine(self, engine: str) -> list[Job]:
        """Jobs whose transfer is on this engine and that are not terminal, or `done` and seeding there."""

    def needing_owner(self, engine: str, limit: int) -> list[Job]:
        """Jobs on this engine for which `Job.needs_owner` holds, oldest change first."""

    def in_state(self, state: State, limit: int, *, after: str | None = None) -> list[Job]:
        """Jobs in a state in the order of their ids, those with an id after `after`."""

    def undescribed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """Jobs for which `Job.needs_description` holds, in the order of their ids, those with an id after `after`."""

    def unprobed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """Jobs for which `needs.needs_probe` holds, in the order of their ids, those with an id after `after`."""

    def short_of_space(self, limit: int) -> list[Job]:
        """Jobs that wait for space (`needs.short_since`), those that have waited longest first."""

    def promised(self) -> list[Promised]:
        """The space kept for jobs (`needs.promised`) on the volumes of their engines, by engine and place.

        What is expected of a job is `needs.expected`, and 0 while that is not known.
        """

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

    def finished(self, limit: int, *, after: str | None = None) -> Page:
        """Jobs that have ended, those that were recorded first before the others.

        Args:
            after: the cursor of the page before; raises Rejected as `page` does.
        """

    def remove(self, jobs: Sequence[Job]) -> int:
        """Forget jobs for good that have ended, whose records have the state and version given, and of which everybody was told.

        Returns:
            how many went; fewer are told when an answer was lost.
        """

    def counts(self, states: Iterable[State] | None = None) -> dict[State, int]:
        """How many jobs are in each of the states (None: in every one); absent states have none."""

    def holding(self, transfers: Iterable[str]) -> list[Job]:
        """Jobs that hold one of these transfers (`Transfer.id`) and may still need its files (`content.held`)."""

    def following(self, transfers: Iterable[str], limit: int) -> list[Job]:
        """Jobs that wait for one of these transfers (`Job.following`), at most `limit`."""

    def sharing(self, contents: Iterable[str]) -> list[Job]:
        """Live jobs that hold a transfer and whose content has one of these names (`content.shown_keys`)."""

    def followed(self) -> dict[str, int]:
        """How many jobs wait for each transfer that is waited for."""

    def engine_counts(self) -> dict[str, int]:
        """How many jobs take a slot on each engine (`states.IN_SLOT`)."""

    def engine_states(self) -> dict[str, dict[State, int]]:
        """How many jobs each engine has in each state: not terminal ones whose transfer is there, and `done` ones that seed."""

    def drains(self) -> dict[str, Drain]:
        """The engines that are given nothing new."""

    def drain(self, engine: str, drain: Drain) -> None:
        """Give an engine nothing new from now on; the last word counts. Idempotent; any name will do."""

    def undrain(self, engine: str) -> None:
        """Give it work again; idempotent."""

    def usage(self, users: Iterable[str], since: float) -> dict[str, Usage]:
        """What each of the users has; users without jobs are absent.

        Args:
            since: wall clock; a job counts from `Job.created_at` on, however often it is tried.
        """

    def limits(self) -> dict[str, Any]:
        """The limits that were set at run time (`jobs.limits.override_key`); None lifts one."""

    def set_limits(self, values: Mapping[str, Any], drop: Iterable[str] = ()) -> None:
        """Set limits of one's own, and forget others; those that are not named stay. Idempotent."""

    def breakers(self) -> dict[str, Breaker]:
        """The breakers of engines, by name; an engine without one never failed."""

    def keep_breaker(self, engine: str, breaker: Breaker, lease: Lease) -> None:
        """Keep the breaker of an engine in place of the one before. Raises LeaseLost as `apply` does."""

    def slot_counts(self) -> dict[tuple[str, str], int]:
        """How many jobs of each (user, tier) take a slot; costs grow with those that do, not with those that wait."""

    def slot_uris(self) -> dict[str, int]:
        """How many jobs with each URI take a slot, as `slot_counts`; the URIs may carry secrets."""

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """The lease if it is free, has run out, or is the owner's already; a new token unless it is the owner's already.

        When it returns a lease no write under an older token of this name succeeds any more.
        """

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """The same lease with a later end. Raises LeaseLost when somebody else holds it."""

    def release_lease(self, lease: Lease) -> None:
        """Let go at once; nothing happens when it is no longer ours."""

    def version(self) -> str:
        """The server's program and version, as `SQLite 3.46.1`."""

    def drift(self) -> tuple[str, ...]:
        """How its indexes and tables differ from those declared, a line each; empty when they do not. Writes nothing."""

    def ping(self) -> None:
        """Return when the store answers; raise Transient otherwise."""

    def close(self) -> None:
        """Release the connections."""
