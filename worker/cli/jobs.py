"""The commands on jobs: add, list, show, why, and the four actions."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import options
from worker.cli.output import by_engine, note, print_json, progress_text, report, state_text, title

if TYPE_CHECKING:
    from worker.jobs.model import Job, Progress
    from worker.jobs.states import State
    from worker.ports import Services

NO_STACK = "no stack is running here: this is how the last one left it, and nothing moves until `haul up`"


def add(
    urls: options.Urls,
    out: options.Out = None,
    name: options.Name = None,
    sha256: options.Sha256 = None,
    hash: options.Hash = False,
    user: options.User = "owner",
    tier: options.Tier = "free",
    key: options.Key = None,
    priority: options.Priority = 0,
    engine: options.EngineName = None,
    select: options.Select = None,
    seed_ratio: options.SeedRatio = None,
    category: options.Category = None,
    max_speed: options.MaxSpeed = None,
    webhook: options.Webhook = None,
    guard: options.Guard = False,
    as_json: options.Json = False,
) -> None:
    """Add jobs to the running stack and return at once.

    Example: haul add https://host/file.iso --priority 10 --key nightly
    """
    from worker import pipeline
    from worker.cli.connect import connected
    from worker.jobs.requests import parse
    from worker.jobs.view import job_view
    from worker.settings import load

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
        webhook=webhook,
        guard=guard,
    )
    # The owner of an embedded stack acts for this machine; on engines elsewhere we are a client like any other.
    requests = [parse(spec, owner=load().needs_stack) for spec in specs]
    with connected() as services:
        answers = pipeline.accept(services, requests)
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    accepted = [answer for answer in answers if not isinstance(answer, Exception)]
    if as_json:
        print_json([job_view(answer.job) for answer in accepted])
    for answer in accepted if not as_json else ():
        known = "" if answer.created else "  (known before)"
        sys.stdout.write(f"{answer.job.id}  {state_text(answer.job)}{known}\n")
    _raise_last(refused, as_json)


def list_jobs(
    user: Annotated[str | None, typer.Option("--user", help="Only this user's.")] = None,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only in this state; may be given several times.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on where a list ended.")] = None,
    as_json: options.Json = False,
) -> None:
    """List jobs, newest first.

    Example: haul list --state downloading --state queued
    """
    from worker.cli.connect import records
    from worker.jobs.view import job_view
    from worker.ports import JobFilter, Page

    where = JobFilter(user, _states(state) if state else None)
    with records() as (store, services):
        page = store.page(where, limit, cursor) if store else Page((), None)
        fresh = _progress(services, page.jobs)
    if services is None:
        note(NO_STACK)
    if as_json:
        print_json({"jobs": [job_view(job, fresh.get(job.id)) for job in page.jobs], "cursor": page.cursor})
        return
    _print_table(page.jobs, fresh)
    if page.cursor:
        note(f"more: --cursor {page.cursor}")


def show(id: options.Id, as_json: options.Json = False) -> None:
    """Show a job and what happened to it so far.

    Example: haul show 3f2a9c
    """
    from worker.cli.connect import find_job, records
    from worker.jobs.view import job_view

    with records() as (store, services):
        job = find_job(store, id)
        fresh = _progress(services, [job]).get(job.id)
    if services is None and not job.terminal:
        note(NO_STACK)
    view = job_view(job, fresh)
    if as_json:
        print_json(view)
        return
    for name, value in view.items():
        if name != "timeline" and value not in (None, False, 0):
            sys.stdout.write(f"{name:12} {_moment(value) if name.endswith('_at') else value}\n")
    sys.stdout.write("timeline\n")
    for entry in view["timeline"]:
        sys.stdout.write(f"  {_moment(entry['at'])}  {entry['text']}\n")


def why(id: options.Id, as_json: options.Json = False) -> None:
    """Say why a job is where it is, and how many go first.

    Example: haul why 3f2a9c
    """
    from worker import pipeline
    from worker.cli.connect import find_job, records

    with records() as (store, services):
        job = find_job(store, id)
        answer = pipeline.why(services, job.id) if services else None
    text = answer.text if answer else _last_words(job)
    if as_json:
        names = ("reason", "ahead", "retry_in_s", "place", "of", "wait_s")
        print_json({"id": job.id, "state": job.state, "text": text} | {name: getattr(answer, name, None) for name in names})
    else:
        sys.stdout.write(f"{state_text(job)}: {text}\n")


def pause(ids: options.Ids, as_json: options.Json = False) -> None:
    """Pause jobs; what they have is kept.

    Example: haul pause 3f2a9c
    """
    _act("pause", ids, as_json)


def resume(ids: options.Ids, as_json: options.Json = False) -> None:
    """Let paused jobs go on.

    Example: haul resume 3f2a9c
    """
    _act("resume", ids, as_json)


def cancel(ids: options.Ids, as_json: options.Json = False) -> None:
    """Cancel jobs and remove what they have downloaded.

    Example: haul cancel 3f2a9c 81d04e
    """
    _act("cancel", ids, as_json)


def retry(ids: options.Ids, as_json: options.Json = False) -> None:
    """Try failed or cancelled jobs again.

    Example: haul retry 3f2a9c
    """
    _act("retry", ids, as_json)


def _act(action: str, ids: Sequence[str], as_json: bool) -> None:
    """Every id is looked up before the first job is touched; a job whose state forbids the action stops no other."""
    from worker import pipeline
    from worker.cli.connect import connected, find_job
    from worker.jobs.errors import Conflict
    from worker.jobs.states import Action
    from worker.jobs.view import job_view

    refused: list[Exception] = []
    with connected() as services:
        asked = [find_job(services.store, id).id for id in ids]
        jobs: list[Job] = []
        for id in asked:
            try:
                jobs.append(pipeline.control(services, id, Action(action)))
            except Conflict as conflict:
                refused.append(conflict)
    if as_json:
        print_json([job_view(job) for job in jobs])
    for job in jobs if not as_json else ():
        sys.stdout.write(f"{job.id}  {state_text(job)}\n")
    _raise_last(refused, as_json)


def _raise_last(refused: Sequence[Exception], as_json: bool) -> None:
    for error in refused[:-1]:
        report(error, as_json=as_json)
    if refused:
        raise refused[-1]


def _states(names: Sequence[str]) -> tuple[State, ...]:
    from worker.jobs.errors import Rejected
    from worker.jobs.states import State

    unknown = sorted(set(names) - set(State))
    if unknown:
        raise Rejected("state", f"there is no state {unknown[0]!r}", fix=f"one of: {', '.join(State)}")
    return tuple(State(name) for name in names)


def _progress(services: Services | None, jobs: Sequence[Job]) -> dict[str, Progress]:
    return services.coordinator.progress(by_engine(jobs)) if services else {}


def _print_table(jobs: Sequence[Job], fresh: dict[str, Progress]) -> None:
    rows = [(job.id, state_text(job), progress_text(job, fresh.get(job.id, job.progress)), title(job)) for job in jobs]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        sys.stdout.write("  ".join([*cells, row[3]]) + "\n")


def _last_words(job: Job) -> str:
    if job.terminal:
        return job.message or (job.result.path if job.result else "it is over")
    return NO_STACK


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
