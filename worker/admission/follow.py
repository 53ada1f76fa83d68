"""Who waits for the download of another: jobs at the heads of the queues, compared with each other and with what is on its way."""

from __future__ import annotations

from collections.abc import Sequence

from worker.jobs.content import keys, leads, may_take_over, shares, stands
from worker.jobs.model import Job
from worker.jobs.states import Reason, State, Want
from worker.ports import Services


class Leaders:
    """What is on its way, by the names of its content; one question to the store for a batch of heads.

    Admission runs under its lease, so of those that ask for the same content one is admitted, and the others find it here.

    Attributes:
        standing: paused jobs, by their ids, that are to be asked for what they hold.
    """

    def __init__(self, services: Services, heads: Sequence[Job]) -> None:
        self.standing: dict[str, Job] = {}
        self._by_key: dict[str, list[Job]] = {}
        self._keys = {job.id: keys(job) for job in heads if _may_follow(job)}
        wanted = {key for names in self._keys.values() for key in names}
        for leader in services.store.sharing(wanted) if wanted else ():
            self.add(leader)

    def add(self, leader: Job) -> None:
        """From now on others may follow this one."""
        names = self._keys.get(leader.id)
        for key in keys(leader) if names is None else names:
            self._by_key.setdefault(key, []).append(leader)

    def transfer_for(self, job: Job) -> str | None:
        """The transfer that the head is to wait for; None when it has to download by itself."""
        found = [leader for key in self._keys.get(job.id, ()) for leader in self._by_key.get(key, ()) if shares(job, leader)]
        leader = next((leader for leader in found if leads(leader)), None)
        if leader is None:
            leader = next((leader for leader in found if stands(leader) and may_take_over(job, leader)), None)
            if leader is not None and leader.reason is not Reason.DUPLICATE:
                self.standing[leader.id] = leader
        return leader.transfer.id if leader is not None and leader.transfer is not None else None


def _may_follow(job: Job) -> bool:
    """What has begun goes on by itself; so does what followed once and was let down."""
    return job.state is State.QUEUED and job.want is Want.RUN and job.transfer is None and job.follows != ""
