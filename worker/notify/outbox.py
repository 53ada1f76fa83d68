"""The outbox: the unsent tail of each job's own events. Nothing is written twice, so nothing has to agree."""

from __future__ import annotations

from worker.jobs.events import published
from worker.ports import Services, Step


def drain(services: Services, limit: int) -> int:
    """Tell the outside what it has not been told of at most `limit` jobs; returns how many jobs there were.

    Each event is delivered at least once, those of a job in order. After a crash between the delivery and the mark, or when
    two processes drain at once, events are delivered again under the same id; readers drop repeats by it.

    Raises:
        Transient: the store or the notifier did not answer; the same events are found again.
    """
    jobs = services.store.unsent(limit)
    if not jobs:
        return 0
    events = [published(job.id, job.user, job.key, event) for job in jobs for event in job.unsent]
    services.failpoints.hit("notify.send")
    services.notifier.deliver(events)
    services.failpoints.hit("notify.mark")
    services.store.mark_sent({job.id: job.version for job in jobs})
    if any(job.unposted for job in jobs):
        services.nudger.nudge(Step.WEBHOOK)
    return len(jobs)
