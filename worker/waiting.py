"""The waiting index as the steps tell it of jobs that wait for their turn; the sweep finds what it was not told of."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from worker.jobs.errors import Transient
from worker.jobs.model import Job
from worker.ports import Services, Step, WaitingJob


def enlist(services: Services, jobs: Sequence[Job]) -> None:
    """Put jobs in the index, and have admission look; without Redis nothing is lost but some seconds."""
    if jobs:
        with contextlib.suppress(Transient):  # the sweep finds that the index has too few
            services.coordinator.add_waiting([WaitingJob.of(job) for job in jobs])
        services.nudger.nudge(Step.ADMIT)
