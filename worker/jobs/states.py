"""States of a job and the one table of moves between them.

The drawing in ARCHITECTURE.md is checked against `TRANSITIONS` by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a job is; the record in the store is the truth."""

    QUEUED = "queued"  # recorded, waits for its turn (see Reason)
    SUBMITTING = "submitting"  # an engine is chosen and may have been told
    DOWNLOADING = "downloading"  # the engine has it (see Phase)
    PAUSED = "paused"  # the engine, asked again, shows it stopped; the slot is free
    FINISHING = "finishing"  # all bytes are here; they are verified and moved
    DONE = "done"  # the file is in place, complete and verified
    FAILED = "failed"  # given up (see Cause)
    CANCELLED = "cancelled"  # the engine, asked again, does not know it


class Phase(StrEnum):
    """What a `downloading` job does."""

    METADATA = "metadata"
    TRANSFER = "transfer"
    CHECKING = "checking"
    STALLED = "stalled"


class Reason(StrEnum):
    """Why a `queued` job waits."""

    TURN = "turn"
    SLOTS = "slots"
    RATE = "rate"
    SPACE = "space"
    ENGINE = "engine"
    SCHEDULE = "schedule"
    DUPLICATE = "duplicate"
    DESCRIPTION = "description"  # its .torrent file is being fetched
    PROBE = "probe"  # its source is being asked for its size


class Want(StrEnum):
    """What the user asked for last; the steps bring the engine to it."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Action(StrEnum):
    """What a user may ask of a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"


class Cause(StrEnum):
    """Why a job failed; the record's message says the same in words."""

    NOT_FOUND = "not_found"  # the server says there is no such file
    FORBIDDEN = "forbidden"  # credentials are missing, wrong, or not enough
    HTTP = "http"  # the server answered, and not with the file
    BUSY = "busy"  # the server asks to come later: too many requests, overloaded
    UNREACHABLE = "unreachable"  # no connection: refused, timed out, no route, no such name
    INTERRUPTED = "interrupted"  # the connection broke and trying again did not help
    STALLED = "stalled"  # no bytes for too long
    METADATA = "metadata"  # the torrent's description never came
    UNSUPPORTED = "unsupported"  # no engine can run this source
    CHECKSUM = "checksum"  # the bytes are not the ones asked for
    INCOMPLETE = "incomplete"  # the engine said complete and the disk says otherwise
    DISK = "disk"  # the file system refused: full, read-only, name not allowed
    SOURCE = "source"  # the torrent, magnet or metalink itself is broken
    REFUSED = "refused"  # a rule refused it after a door had accepted it
    WORKER = "worker"  # it killed the process that worked on it, again and again
    ENGINE = "engine"  # the engine failed in a way that says nothing about the source


TERMINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED})
LIVE = frozenset(State) - TERMINAL
#: States in which an engine may hold something for the job.
AT_ENGINE = frozenset({State.SUBMITTING, State.DOWNLOADING, State.PAUSED, State.FINISHING})
#: States that take one of the engine's slots.
IN_SLOT = frozenset({State.SUBMITTING, State.DOWNLOADING})
#: States in which a job gets no further without the engine it has, or seeds there; `queued` or `paused` it is admitted to another.
HELD = IN_SLOT | {State.FINISHING, State.DONE}

#: (from, to) -> what causes the move. Whatever is not here is refused by `check`.
TRANSITIONS: Mapping[tuple[State, State], str] = {
    (State.QUEUED, State.SUBMITTING): "admitted",
    (State.QUEUED, State.PAUSED): "pause",
    (State.QUEUED, State.CANCELLED): "cancel",
    (State.QUEUED, State.FAILED): "refused",
    (State.QUEUED, State.FINISHING): "fetched for another job",
    (State.SUBMITTING, State.DOWNLOADING): "the engine has it",
    (State.SUBMITTING, State.QUEUED): "the engine did not take it",
    (State.SUBMITTING, State.PAUSED): "pause",
    (State.SUBMITTING, State.CANCELLED): "cancel",
    (State.SUBMITTING, State.FAILED): "the engine refused it",
    (State.DOWNLOADING, State.FINISHING): "all bytes are here",
    (State.DOWNLOADING, State.PAUSED): "pause",
    (State.DOWNLOADING, State.QUEUED): "retry by cause",
    (State.DOWNLOADING, State.SUBMITTING): "the engine lost it",
    (State.DOWNLOADING, State.CANCELLED): "cancel",
    (State.DOWNLOADING, State.FAILED): "cause is final",
    (State.PAUSED, State.QUEUED): "resume",
    (State.PAUSED, State.CANCELLED): "cancel",
    (State.PAUSED, State.FINISHING): "was complete",
    (State.PAUSED, State.FAILED): "cause is final",
    (State.FINISHING, State.DONE): "verified and moved",
    (State.FINISHING, State.QUEUED): "retry by cause",
    (State.FINISHING, State.CANCELLED): "cancel before the move",
    (State.FINISHING, State.FAILED): "verification failed",
    (State.FAILED, State.QUEUED): "retry",
    (State.CANCELLED, State.QUEUED): "retry",
}


def check(old: State, new: State) -> None:
    """Raise ValueError unless `old` to `new` is a move of the table (staying is always allowed)."""
    if old != new and (old, new) not in TRANSITIONS:
        raise ValueError(f"a job cannot go from {old} to {new}")
