"""Jobs that no disk which they may go to will ever have room for."""

from __future__ import annotations

from dataclasses import replace

from worker.admission.space import look_at
from worker.jobs.model import Job
from worker.jobs.needs import expected
from worker.ports import Services


def never_fits(services: Services, job: Job) -> str | None:
    """Why no volume of the engines that may take the job will ever have room for it; None when one may, or it is not known."""
    if expected(job) is None:
        return None
    space = look_at(services, {}, ())

    def words(anywhere: Job) -> list[str | None]:
        able = [name for name, engine in services.engines.items() if engine.features.beyond(anywhere) is None]
        shortages = [space.shortage(job, name) for name in able if anywhere.engine in (None, name)]
        return [shortage.text if shortage is not None and shortage.never else None for shortage in shortages]

    found = words(job)
    if not found or None in found:
        return None
    return f"{found[0]}{only_there(job, others=None in words(replace(job, engine=None)))}"


def only_there(job: Job, *, others: bool) -> str:
    """What is said besides of one that is too large for the disk of the engine that its user named.

    Args:
        others: there is an engine whose disk may have room.
    """
    if job.engine is None:
        return ""
    return f" on {job.engine}, the engine it names" + ("; without that it may go to one with a larger disk" if others else "")
