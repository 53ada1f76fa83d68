"""Jobs that an engine died with more than once start apart from each other; see `worker.suspects`."""

from __future__ import annotations

from collections.abc import Mapping

from worker.admission.decide import EngineView, Wait
from worker.jobs.model import Job
from worker.jobs.states import Reason
from worker.ports import Services
from worker.suspects import ALONE, may_join, near, tried_apart


class Trials:
    """Of one admission. The store is asked for those that are on trial once one waits for its trial."""

    def __init__(self, services: Services, views: Mapping[str, EngineView], now: float) -> None:
        self._services = services
        self._views = views
        self._now = now
        self._near: list[Job] | None = None

    def wait(self, job: Job) -> Wait | None:
        """The wait of a job that could start otherwise; None when it is no suspect, or its turn has come. Raises Transient."""
        if not tried_apart(job):
            return None
        if self._near is None:
            self._near = self._given_lately()
        if may_join(job, self._near, self._now):
            return None
        how = "alone" if job.engine_deaths >= ALONE else "with few others"
        died = f"an engine died {job.engine_deaths} times soon after it was given this job"
        return Wait(Reason.ENGINE, f"{died}; it is tried {how}, when others that this is so of have shown what they do")

    def took(self, admitted: Job) -> None:
        """Count one more."""
        if tried_apart(admitted) and self._near is not None:
            self._near.append(admitted)

    def _given_lately(self) -> list[Job]:
        """An engine that does not answer tries nobody."""
        alive = [name for name, view in self._views.items() if view.alive]
        return [job for name in alive for job in self._services.store.at_engine(name) if near(job, self._now)]
