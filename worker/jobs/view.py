"""A job as people and programs outside see it: plain JSON, the source without its secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.jobs.model import Job, Progress
from worker.jobs.needs import announced
from worker.jobs.states import State


def job_view(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    """The JSON of a job.

    Args:
        progress: fresher than the record's, when known. Bytes and bytes a second.
    """
    shown = progress if progress is not None and job.state is State.DOWNLOADING else job.progress
    if shown.total is None and job.state is State.DONE and job.result is not None:  # fetched for another job
        shown = replace(shown, done=job.result.size, total=job.result.size)
    running = job.state is State.DOWNLOADING
    about = job.description
    return {
        "id": job.id,
        "user": job.user,
        "key": job.key,
        "state": job.state,
        "phase": job.phase,
        "reason": job.reason,
        "cause": job.cause,
        "message": job.message,
        "want": job.want,
        "source": job.source.shown,
        "kind": job.source.kind,
        "name": job.name,
        "infohash": (about.v1 or about.v2) if about else None,
        "files": about.files if about else None,
        "tier": job.tier,
        "priority": job.priority,
        "max_speed": job.max_speed,
        "engine": job.transfer.engine if job.transfer else job.engine,
        "attempt": job.attempt,
        "done_bytes": shown.done,
        "total_bytes": shown.total if shown.total is not None else announced(job),
        "speed": shown.speed if running else 0,
        "eta_s": shown.eta_s if running else None,
        "path": job.result.path if job.result and job.state is State.DONE else None,
        "size": job.result.size if job.result and job.state is State.DONE else None,
        "sha256": job.result.sha256 if job.result and job.state is State.DONE else None,
        "seeding": job.seeding,
        "webhook": job.hook.host if job.hook else None,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "version": job.version,
        "timeline": [{"at": event.at, "text": event.text, "type": event.type} for event in job.events],
    }
