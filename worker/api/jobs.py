"""Jobs by HTTP: ask for one, look at them, act on one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse, Response

from worker import logs, pipeline
from worker.api.schemas import BandwidthSpec, DrainQuery, JobSpec, JobsQuery, LimitsQuery
from worker.jobs import requests
from worker.jobs.errors import NotFound, Rejected, Transient
from worker.jobs.model import Job, Progress
from worker.jobs.states import Action, State
from worker.jobs.view import job_view
from worker.ports import JobFilter, Services
from worker.reads import Reads

#: `.torrent` files that are read at once: one that was made to hurt takes seconds and some hundred megabytes.
READERS_MAX = 2

log = logs.get(__name__)


class Jobs:
    """The routes of jobs. They answer with JSON as it is built; the response models of `/docs` describe it."""

    def __init__(self, services: Services) -> None:
        self._services, self._reads = services, Reads(services.cache)
        self._readers = threading.BoundedSemaphore(READERS_MAX)

    def add(self, body: JobSpec) -> JSONResponse:
        """Ask for a download, by `uri` or with a `.torrent` file. It is recorded when this answers.

        A known `key` answers 200 with its job, as it is now.
        """
        with self._readers if body.torrent else nullcontext():
            request = requests.parse(dict(body))
        [answer] = pipeline.accept(self._services, [request])
        if isinstance(answer, Rejected):
            raise answer
        location = {"Location": f"/v1/jobs/{answer.job.id}"}
        return JSONResponse(job_view(answer.job), 201 if answer.created else 200, location)

    def page(self, query: Annotated[JobsQuery, Query()]) -> Response:
        """Jobs, newest first."""
        where = JobFilter(user=query.user, states=tuple(query.state) or None)

        def look() -> dict[str, Any]:
            page = self._services.store.page(where, query.limit, query.cursor)
            return {"jobs": self._views(page.jobs), "cursor": page.cursor}

        return _json(self._reads.jobs(query.user, (where.states, query.limit, query.cursor), look))

    def show(self, id: str) -> Response:
        """One job, its progress and its timeline."""
        view = self._reads.job(id, lambda: next(iter(self._views(list(self._services.store.get([id]).values()))), None))
        if view is None:
            raise NotFound("id", f"there is no job {id}", fix="GET /v1/jobs lists them")
        return _json(view)

    def why(self, id: str) -> JSONResponse:
        """Why a job is where it is, in a sentence for its user."""
        answer = pipeline.why(self._services, id)
        job = answer.job
        known = {name: getattr(answer, name) for name in ("text", "reason", "ahead", "retry_in_s", "place", "of", "wait_s")}
        return JSONResponse({"id": job.id, "state": job.state, **known})

    def act(self, id: str, action: Action) -> JSONResponse:
        """Pause, resume, cancel or retry a job; safe to repeat. The job may still be on the way there."""
        return JSONResponse(self._views([pipeline.control(self._services, id, action)])[0])

    def engines(self) -> JSONResponse:
        """The engines as their owners saw them last."""
        return JSONResponse({"engines": self._overview()["engines"]})

    def drain(self, name: str, query: Annotated[DrainQuery, Query()]) -> JSONResponse:
        """Give an engine nothing new; safe to repeat, the last word counts. What it downloads goes on there, unless it is to `move`."""
        pipeline.drain(self._services, name, move=query.move)
        return self._engine(name)

    def undrain(self, name: str) -> JSONResponse:
        """Give an engine work again; safe to repeat."""
        pipeline.undrain(self._services, name)
        return self._engine(name)

    def queue(self) -> JSONResponse:
        """How many jobs are in each state, what waits, and the engines."""
        return JSONResponse(self._overview())

    def limits(self, user: str, query: Annotated[LimitsQuery, Query()]) -> Response:
        """What a user may have and has: tokens, jobs, bytes of the day, and when he may ask and start again."""
        return _json(self._reads.limits(user, query.tier, lambda: pipeline.allowance(self._services, user, query.tier)))

    def _overview(self) -> dict[str, Any]:
        seen: dict[str, Any] = self._reads.overview(lambda: pipeline.overview(self._services))
        return seen

    def bandwidth(self) -> JSONResponse:
        """The budget of all engines: what is in force, when it changes, what each engine is held to and takes."""
        return JSONResponse(pipeline.bandwidth(self._services))

    def set_bandwidth(self, body: BandwidthSpec) -> JSONResponse:
        """Set the budget of all engines at run time, over that of the settings, or take that back with null."""
        return JSONResponse(pipeline.set_bandwidth(self._services, body.schedule))

    def _engine(self, name: str) -> JSONResponse:
        engines = pipeline.overview(self._services)["engines"]
        return JSONResponse({"engines": [engine for engine in engines if engine["name"] == name]})

    def _views(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        progress = self._progress(jobs)
        return [job_view(job, progress.get(job.id)) for job in jobs]

    def _progress(self, jobs: Sequence[Job]) -> dict[str, Progress]:
        by_engine: dict[str, list[str]] = {}
        for job in jobs:
            if job.state is State.DOWNLOADING and job.transfer:
                by_engine.setdefault(job.transfer.engine, []).append(job.id)
        try:
            return self._services.coordinator.progress(by_engine) if by_engine else {}
        except Transient as error:
            log.warning("progress is shown as recorded", error=str(error))
            return {}


def _json(text: bytes) -> Response:
    return Response(text, media_type="application/json")
