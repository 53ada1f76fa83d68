"""Jobs by HTTP: ask for one, look at them, act on one."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Annotated

from fastapi import Query
from fastapi.responses import JSONResponse, Response

from worker import pipeline
from worker.answers import Answers
from worker.api.schemas import BandwidthSpec, DrainQuery, JobSpec, JobsQuery, LimitsQuery
from worker.jobs import requests
from worker.jobs.errors import NotFound, Rejected
from worker.jobs.states import Action
from worker.jobs.view import job_view
from worker.ports import Services

#: `.torrent` files that are read at once: one that was made to hurt takes seconds and some hundred megabytes.
READERS_MAX = 2


class Jobs:
    """The routes of jobs. They answer with JSON as it is built; the response models of `/docs` describe it."""

    def __init__(self, services: Services) -> None:
        self._services, self._answers = services, Answers(services)
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
        return _json(self._answers.jobs(query.user, query.state or None, query.limit, query.cursor))

    def show(self, id: str) -> Response:
        """One job, its progress and its timeline."""
        view = self._answers.job(id)
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
        return JSONResponse(self._answers.views([pipeline.control(self._services, id, action)])[0])

    def engines(self) -> JSONResponse:
        """The engines as their owners saw them last."""
        return JSONResponse({"engines": self._answers.overview()["engines"]})

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
        return JSONResponse(self._answers.overview())

    def limits(self, user: str, query: Annotated[LimitsQuery, Query()]) -> Response:
        """What a user may have and has: tokens, jobs, bytes of the day, and when he may ask and start again."""
        return _json(self._answers.limits(user, query.tier))

    def bandwidth(self) -> JSONResponse:
        """The budget of all engines: what is in force, when it changes, what each engine is held to and takes."""
        return JSONResponse(pipeline.bandwidth(self._services))

    def set_bandwidth(self, body: BandwidthSpec) -> JSONResponse:
        """Set the budget of all engines at run time, over that of the settings, or take that back with null."""
        return JSONResponse(pipeline.set_bandwidth(self._services, body.schedule))

    def _engine(self, name: str) -> JSONResponse:
        engines = pipeline.overview(self._services)["engines"]
        return JSONResponse({"engines": [engine for engine in engines if engine["name"] == name]})


def _json(text: bytes) -> Response:
    return Response(text, media_type="application/json")
