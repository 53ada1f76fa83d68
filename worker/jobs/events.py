"""Events: the entries of a job's timeline; those with a type are also told to the outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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
