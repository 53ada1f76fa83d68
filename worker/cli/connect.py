"""How a command reaches the services: through the stack that runs on the data directory, or the addresses in the settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.cli.lock import holder, running
from worker.jobs.errors import NotFound, Rejected
from worker.jobs.model import Job, job_id
from worker.jobs.states import State
from worker.ports import JobStore, Services
from worker.settings import NoStack, Settings, load
from worker.stack import Stack

#: A stack that holds its data directory has its servers up by then.
STACK_START_TIMEOUT_S = 15.0
POLL_S = 0.02
ID_PREFIX_CHARS_MIN = 6
ID_CHARS = len(job_id("", ""))


@contextmanager
def connected() -> Iterator[Services]:
    """The services of the running stack, or those the settings name.

    Raises:
        NoStack: the settings say `embedded` and no stack runs.
    """
    settings = load()
    stack = find_stack(settings.data_dir) if settings.needs_stack else None
    if settings.needs_stack and stack is None:
        raise NoStack(f"no stack is running on {settings.data_dir}: start one with `haul up`")
    services = build(settings, stack)
    try:
        yield services
    finally:
        services.close()


@contextmanager
def records() -> Iterator[tuple[JobStore | None, Services | None]]:
    """The records, and the services when they can be reached; both None when nothing was ever recorded here.

    Without a stack the records are as the last one left them.
    """
    settings = load()
    if not settings.needs_stack or find_stack(settings.data_dir):
        with connected() as services:
            yield services.store, services
        return
    store = _existing_store(settings)
    try:
        yield store, None
    finally:
        if store:
            store.close()


def build(settings: Settings, stack: Stack | None) -> Services:
    """The services at these addresses."""
    from worker import wiring

    return wiring.build(settings.connected(stack))


def find_stack(data_dir: Path, timeout_s: float = STACK_START_TIMEOUT_S) -> Stack | None:
    """The stack that runs on a data directory; one that is just starting is waited for."""
    deadline = time.monotonic() + timeout_s
    while holder(data_dir) is not None:
        if stack := running(data_dir):
            return stack
        if time.monotonic() >= deadline:
            raise NoStack(f"process {holder(data_dir)} holds {data_dir} and its servers do not come up; see its log")
        time.sleep(POLL_S)
    return None


def find_job(store: JobStore | None, id: str) -> Job:
    """The job of an id, or of the first characters of one.

    Raises:
        NotFound: no job, or it is not clear which.
    """
    unknown = NotFound("id", f"there is no job {id}", fix="`haul list` shows the jobs")
    if store is None:
        raise unknown
    if len(id) >= ID_CHARS:
        job = store.get([id]).get(id)
        if job is None:
            raise unknown
        return job
    if len(id) < ID_PREFIX_CHARS_MIN:
        raise Rejected("id", f"{id!r} is too short", fix=f"give at least {ID_PREFIX_CHARS_MIN} characters; `haul list` shows the ids")
    found = [job for state in State for job in store.in_state(state, 2, after=id) if job.id.startswith(id)]
    if not found:
        raise unknown
    if len({job.id for job in found}) > 1:
        raise NotFound("id", f"{id} is the start of several jobs", fix="give more of it: " + ", ".join(sorted(job.id for job in found)))
    return found[0]


def _existing_store(settings: Settings) -> JobStore | None:
    from worker.store import open_store, sqlite_path

    path = sqlite_path(settings.store_address)
    return None if path and not path.exists() else open_store(settings.store_address, profile=settings.profile)
