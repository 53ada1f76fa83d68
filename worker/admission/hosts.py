"""How many jobs download from one server at once; pure but for `hosts_now`.

A job counts for the server that its own address names, by its name as it is written: where that one redirects to is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.admission.decide import Wait
from worker.jobs.model import Job
from worker.jobs.source import host_of
from worker.jobs.states import Reason
from worker.ports import Services


@dataclass(frozen=True, slots=True)
class Hosts:
    """What is at work, by server.

    Attributes:
        most: jobs that may download from one server at once; None for no limit.
        running: those that do, by host.
    """

    most: int | None = None
    running: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def of(most: int | None, uris: Mapping[str, int]) -> Hosts:
        """From the addresses of those that take a slot."""
        running: Counter[str] = Counter()
        for uri, jobs in uris.items():
            if host := host_of(uri):
                running[host] += jobs
        return Hosts(most, running)

    def wait(self, job: Job) -> Wait | None:
        """The wait of a job that could start otherwise; None when its server has room for it."""
        host = job.source.host
        if self.most is None or host is None or self.running[host] < self.most:
            return None
        jobs = "1 job downloads" if self.most == 1 else f"{self.most} jobs download"
        return Wait(Reason.SLOTS, f"{jobs} from {host}, as many as may at once")

    def took(self, job: Job) -> None:
        """Count one more."""
        if self.most is not None and job.source.host is not None:
            self.running[job.source.host] += 1


def hosts_now(services: Services) -> Hosts:
    """As the store counts; without a limit nothing is asked. Raises Transient."""
    most = services.settings.jobs_per_host
    return Hosts() if most is None else Hosts.of(most, services.store.slot_uris())
