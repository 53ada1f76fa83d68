"""Every bound of coordination, with its unit, in one place; tests make them smaller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from worker.limits import NUDGE_S, RECLAIM_S, RPC_TIMEOUT_S

#: A longer message is refused at `offer`; a request of legal length (`jobs.requests`) has at most about 12 KiB, and 1.4 MB more
#: when it carries a `.torrent` file of the size that the client sends.
BODY_BYTES_MAX = 1_500_000
#: Items in one script or pipeline: more are sent in several, so that Redis serves others in between.
BATCH = 1_000

_T = TypeVar("_T")


def batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The items in order, at most `BATCH` at a time."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Time-outs, lifetimes and sizes.

    Attributes:
        connect_s, answer_s: time-outs of a connection and of one answer.
        block_s: longest single wait on the server; longer waits are made of several.
        silence_s: after a call timed out the others fail at once for this long, so that a server
            that hangs costs a caller with several calls one time-out, not one for each.
        reclaim_s: an intake message unacknowledged for this long goes to another consumer.
        consumer_s: a consumer with nothing pending is forgotten after this time.
        intake_max: messages the intake holds before `offer` refuses; parked_max: those put aside,
            with parked_bytes of each value.
        events_max: events the stream keeps, about.
        snapshot_s, progress_s, wake_s: what was not renewed in this time vanishes.
        begun_s: what was begun and never ended is remembered for so long.
    """

    connect_s: float = 3.0
    answer_s: float = 5.0
    block_s: float = 1.0
    silence_s: float = 2.0
    nudge_s: float = NUDGE_S
    reclaim_s: float = RECLAIM_S
    consumer_s: float = 3_600.0
    intake_max: int = 100_000
    parked_max: int = 1_000
    parked_bytes: int = 65_536
    events_max: int = 100_000
    snapshot_s: float = 15.0
    progress_s: float = 60.0
    wake_s: float = 60.0
    begun_s: float = 86_400.0


assert Bounds().answer_s < RPC_TIMEOUT_S, "an owner that meets a silent Redis still renews its lease in time"
