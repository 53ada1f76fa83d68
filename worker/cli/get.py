"""`haul get`: one shot. Starts what is needed or attaches, downloads, says where the files are."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from worker.cli import options
from worker.cli.output import Exit, by_engine

if TYPE_CHECKING:
    from worker.cli.own_stack import StackSession
    from worker.cli.progress import Display
    from worker.jobs.model import Job, Request
    from worker.ports import Services

LOOK_EVERY_S = 0.25
#: Stacks that may end under one `get` before it gives up.
LOSSES_MAX = 5
#: Seconds without an answer of a stack that is there.
PATIENCE_S = 30.0
#: How often one URL can be fetched again after its file was deleted or changed.
REPEATS_MAX = 10_000


def get(
    urls: options.Urls,
    out: options.Out = None,
    name: options.Name = None,
    sha256: options.Sha256 = None,
    hash: options.Hash = False,
    user: options.User = "owner",
    tier: options.Tier = "admin",
    key: options.Key = None,
    priority: options.Priority = 0,
    engine: options.EngineName = None,
    select: options.Select = None,
    seed_ratio: options.SeedRatio = None,
    category: options.Category = None,
    max_speed: options.MaxSpeed = None,
    guard: options.Guard = False,
    as_json: options.Json = False,
) -> None:
    """Download, and print path and size. Stops everything it started; beside a running stack it uses that one.

    The same command continues what was interrupted; a file that is there already is not fetched again.

    Example: haul get https://host/file.iso --out /tmp --hash
    """
    from worker.cli.own_stack import StackSession
    from worker.cli.progress import Display
    from worker.jobs.requests import parse
    from worker.settings import load

    settings = load()
    if out is None and settings.needs_stack:
        out = Path.cwd()
    specs = options.specs(
        urls,
        out,
        name=name,
        sha256=sha256,
        hash=hash,
        user=user,
        tier=tier,
        key=key,
        priority=priority,
        engine=engine,
        select=select,
        seed_ratio=seed_ratio,
        category=category,
        max_speed=max_speed,
        guard=guard,
    )
    # On engines of other machines we are a client like any other.
    requests = [parse(spec, owner=settings.needs_stack) for spec in specs]
    for request in requests:
        options.check(request, settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends a `get` as Ctrl-C does
    display, session = Display(as_json), StackSession(settings)
    try:
        with session:
            with display:
                jobs = _fetch(session, requests, display)
            code = display.result(jobs)  # before the stop, which takes a second
    except KeyboardInterrupt:
        display.interrupted(session.owned)
        code = Exit.INTERRUPTED
    raise typer.Exit(code)


def _fetch(session: StackSession, requests: Sequence[Request], display: Display) -> list[Job]:
    """The jobs of the requests once all have ended, in the order of the requests; a stack that is lost is replaced."""
    from worker.jobs.errors import Transient

    ids: list[str] = []
    losses, silent_since = 0, None
    while True:
        try:
            if session.lost() and losses < LOSSES_MAX:
                losses += 1
                session.restore()
            for request in requests[len(ids) :]:
                ids.append(_claim(session.services, request, display))  # noqa: PERF401 - those before a failure are kept
            jobs = _look(session.services, ids, display)
            silent_since = None
        except Transient:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > PATIENCE_S:
                raise
        else:
            if all(job.terminal for job in jobs):
                return jobs
        time.sleep(LOOK_EVERY_S)


def _look(services: Services, ids: Sequence[str], display: Display) -> list[Job]:
    known = services.store.get(ids)
    jobs = [known[id] for id in ids]
    display.show(jobs, services.coordinator.progress(by_engine(jobs)))
    return jobs


def _claim(services: Services, request: Request, display: Display) -> str:
    """The id of the job for a request: a new one, or the one the same command made before, set going again.

    Raises:
        Rejected: the request cannot be taken.
    """
    from worker import pipeline
    from worker.jobs.errors import Conflict
    from worker.jobs.states import Action, Cause, State, Want

    for key in _keys(request):
        answer = pipeline.accept(services, [replace(request, key=key)])[0]
        if isinstance(answer, Exception):
            raise answer
        job = answer.job
        if answer.created:
            return job.id
        if job.state is State.DONE:
            if _in_place(job):
                display.already(job)
                return job.id
        elif job.state in (State.FAILED, State.CANCELLED) and job.cause is not Cause.REFUSED:
            return pipeline.control(services, job.id, Action.RETRY).id
        elif job.want is Want.PAUSE:
            return pipeline.control(services, job.id, Action.RESUME).id
        elif job.want is Want.RUN and not job.terminal:
            return job.id
        # Done and gone since, refused, or on its way out: the next key makes a job of its own.
    raise Conflict("key", f"{request.key!r} is of a job that is over", fix="use another key, or none")


def _keys(request: Request) -> Iterator[str]:
    """The key the user gave; or keys made of what is asked for, so that the same command finds its job again."""
    if request.key is not None:
        yield request.key
        return
    same = (request.out, request.name, request.source.uri, request.sha256, request.select)
    key = "get:" + hashlib.sha256(repr(same).encode()).hexdigest()[:24]
    yield key
    yield from (f"{key}#{number}" for number in range(2, REPEATS_MAX))


def _in_place(job: Job) -> bool:
    """Whether what the job put in place is still there, by its size."""
    if job.result is None:
        return False
    path = Path(job.result.path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return bool(files) and sum(file.stat().st_size for file in files) == job.result.size
