"""What a job needs of a disk, and what has to be asked before that is known; pure, from its record."""

from __future__ import annotations

from worker.jobs.model import Job, Source, SourceKind
from worker.jobs.states import Reason, State


def announced(job: Job) -> int | None:
    """Bytes of its content as its torrent or its source announced them; None while nobody did."""
    if job.description is not None:
        return job.description.selected if job.select else job.description.size
    return job.probe.size if job.probe is not None else None


def expected(job: Job) -> int | None:
    """Bytes it takes once it is complete; None while unknown. What its engine knows is truer than what was announced."""
    return job.progress.total if job.progress.total is not None else announced(job)


def promised(job: Job) -> int | None:
    """Bytes that were announced, or else claimed, of a job for which space is kept on its engine's volume; None when none is.

    Space is kept from admission on until it has ended: while it is paused, and while it waits for another try. A job that
    found the disk full gives up what was kept for it, and is admitted anew.
    """
    if job.transfer is None or job.terminal or (job.state is State.QUEUED and job.reason is Reason.SPACE):
        return None
    size = announced(job)
    return job.claim if size is None else size


def short_since(job: Job) -> float | None:
    """Store clock: since when it has waited for space; None when it does not."""
    return job.short_since if job.state is State.QUEUED else None


def tells_size(source: Source) -> bool:
    """True when a source can be asked for its size: what is at an http or https address, and the metalinks there."""
    fetched = source.uri.lower().startswith(("http://", "https://"))
    return source.kind is SourceKind.HTTP or (source.kind is SourceKind.METALINK and fetched)


def needs_probe(job: Job) -> bool:
    """True while its source is to be asked for its size; it is not admitted before."""
    return job.state is State.QUEUED and job.reason is Reason.PROBE
