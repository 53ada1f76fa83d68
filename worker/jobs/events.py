"""Events: the entries of a job's timeline; those with a type are also told to the outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Lines a timeline keeps.
TIMELINE_ENTRIES_MAX = 200


class EventType(StrEnum):
    """What the outside is told; the names are an interface."""

    QUEUED = "job.queued"
    STARTED = "job.started"
    PAUSED = "job.paused"
    RESUMED = "job.resumed"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    REFUSED = "job.refused"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a timeline.

    Attributes:
        version: the job's version that this write made; with the job's id it is the event's id.
        at: wall clock, seconds since the epoch; for people, never compared.
        text: what happened, in words.
        type: what the outside is told, or None for a line of the timeline only.
        data: small JSON values that go with the type (path, size, cause, …); never a URL.
    """

    version: int
    at: float
    text: str
    type: EventType | None = None
    data: dict[str, Any] = field(default_factory=dict)


def extended(events: tuple[Event, ...], entry: Event, sent: int) -> tuple[Event, ...]:
    """The timeline with one more line; when it is too long the oldest lines go that the outside was told or need not be.

    Args:
        sent: version of the last event that everybody who is to hear of it was told.
    """
    longer = (*events, entry)
    surplus = len(longer) - TIMELINE_ENTRIES_MAX
    if surplus <= 0:
        return longer
    told = [e for e in longer if e.type is None or e.version <= sent][:surplus]
    dropped = {id(e) for e in told}
    return tuple(e for e in longer if id(e) not in dropped)


def published(job_id: str, user: str, key: str | None, event: Event) -> dict[str, Any]:
    """The event as readers of the stream and of webhooks see it; `id` repeats when it is delivered again."""
    return {
        "id": f"{job_id}:{event.version}",
        "type": str(event.type),
        "job": job_id,
        "user": user,
        "key": key,
        "at": event.at,
        "text": event.text,
        **event.data,
    }
