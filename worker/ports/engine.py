"""A download program under our control, and what is said to it and by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from worker.jobs.model import Job, Progress, Source, SourceKind
from worker.jobs.states import Cause, Phase, Reason


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
        anew: what is on the disk is of no use; one that is `passing` as well is tried as it is before it begins from the start.
        retry_after_s: no other try is of use, or wanted by the source, before.
        wait: nothing failed, and the order has to be given again later, for this reason.
    """

    cause: Cause
    passing: bool
    detail: str
    elsewhere: bool = False
    wait: Reason | None = None
    anew: bool = False
    retry_after_s: float | None = None


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
        version: of the program, as it says itself; None when it did not.
    """

    session: str
    items: Mapping[str, Item]
    free_bytes: int | None
    speed: int
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What to submit. `directory` exists and belongs to this transfer on this engine alone.

    Attributes:
        document: the `.torrent` file of a source of kind TORRENT; the engine fetches none itself.
        select: numbers of files from 1, in the order of the torrent; empty means all.
        seed_ratio: seed until so much was uploaded; None or 0 does not seed.
        seed_time_s: seed no longer than this.
        limit: bytes a second it is held to from its first byte on; `Engine.limit` changes it.
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
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """What an engine can do; differences are declared, never guessed from its name.

    Attributes:
        bittorrent_v2: it fetches torrents that have no description of the first version.
        files_max: it is not fit for torrents of more files.
        takes: what it takes of a limit for all its downloads, when nothing else holds them back.
    """

    kinds: frozenset[SourceKind]
    selects_files: bool = False
    seeds: bool = False
    bittorrent_v2: bool = False
    files_max: int | None = None
    takes: float = 1.0

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

    Attributes:
        name: the same in every process, and for as long as records name it.
        slots: downloads it has running at once.
        weight: its part of what engines share, compared with the others'.
        directory: absolute; the work directories of its transfers lie below it, on one volume.
        rpc_timeout_s: how long one call lasts at most.
    """

    name: str
    slots: int
    weight: int
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

    def throttle(self, limit: int | None) -> int | None:
        """Hold all downloads together to so many bytes a second, in whole KiB, None for as many as there are; idempotent.

        Returns:
            what the engine, asked again, says of its limit. It forgets it when it is restarted.
        """

    def limit(self, limits: Mapping[str, int | None]) -> dict[str, int | None]:
        """Hold each download to so many bytes a second, in whole KiB, None for as many as there are; by handle, idempotent.

        What runs goes on without a break. All are dealt with in a few calls, however many there are.

        Returns:
            what the engine, asked again, says of each; those it does not have are left out, those that ended may be. Whether it
            remembers them when it is restarted is its own affair.
        """

    def files(self, handle: str) -> list[FoundFile]:
        """The files of a transfer the engine shows COMPLETE, selected ones only.

        Raises:
            Failed: cause INCOMPLETE when the engine does not know it or it is not complete.
        """

    def close(self) -> None:
        """Release the connections; the engine goes on."""


def able(job: Job, engines: Iterable[Engine]) -> frozenset[str]:
    """The names of those of the engines that can fetch a job, and may."""
    return frozenset(engine.name for engine in engines if job.engine in (None, engine.name) and engine.features.beyond(job) is None)
