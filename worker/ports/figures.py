"""What a store counts and adds up of many jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What one user has of what limits are set on.

    Attributes:
        running: jobs that take a slot (`states.IN_SLOT`).
        queued: jobs that wait.
        size: bytes of the jobs recorded since the time asked for: what the ended ones got, what the others are expected to have.
    """

    running: int = 0
    queued: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Promised:
    """Space that is kept for jobs of one engine that go to one place; bytes.

    Attributes:
        out: `Job.out` of these jobs.
        owed: what their work directories will still take: of each, what is expected less what was allocated when it was
            last recorded, and never less than nothing.
        whole: what is expected of them in all.
    """

    engine: str
    out: str | None
    owed: int
    whole: int
