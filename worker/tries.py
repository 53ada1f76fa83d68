"""Jobs and messages that kill the process that works on them: tried a bounded number of times, and never blamed for a neighbour.

A process that dies (killed, out of memory, a fault in a library) says nothing, so work is noted before it is begun and the note is
taken away when it ends, well or with an exception. Whatever is found noted was in the hands of a process that died: it is dealt with
alone from then on, so that the next death is its own doing. Losing the notes only gives a job more tries.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from worker import logs
from worker.jobs.errors import Transient
from worker.ports import Services, Step

#: A job that its worker has died with so often is not begun again.
TRIES_MAX = 4

log = logs.get(__name__)


@contextlib.contextmanager
def together(services: Services, step: Step, ids: Sequence[str]) -> Iterator[Mapping[str, int]]:
    """Work on several at once; yields how often a process died with which: these are to be left to `alone`, the least blamed first."""
    deaths = _begun(services, step, ids)
    try:
        yield deaths
    finally:
        _ended(services, step, [id for id in ids if id not in deaths])


@contextlib.contextmanager
def alone(services: Services, step: Step, id: str) -> Iterator[bool]:
    """Work on one by itself; yields false when processes have died with it too often: it is to be given up."""
    deaths = _begun(services, step, [id], again=True).get(id, 0)
    if deaths:
        log.warning("a worker died with it; it is dealt with alone", step=str(step), id=id, deaths=deaths)
    try:
        yield deaths < TRIES_MAX
    finally:
        _ended(services, step, [id])


def given_up(services: Services, step: Step, id: str, doing: str) -> str:
    """Count one that is given up; returns what to tell of it.

    Args:
        doing: what the worker was at, as "it moved the job into place".
    """
    services.metrics.poisonous.labels(step).inc()
    log.error("it is given up: a worker died with it each time", step=str(step), id=id, tries=TRIES_MAX)
    return f"the worker died {TRIES_MAX} times while {doing}"


def _begun(services: Services, step: Step, ids: Sequence[str], *, again: bool = False) -> dict[str, int]:
    try:
        return services.coordinator.begin(step, ids, again=again) if ids else {}
    except Transient:  # then nothing is known of earlier tries, and the work goes on
        return {}


def _ended(services: Services, step: Step, ids: Sequence[str]) -> None:
    if ids:
        with contextlib.suppress(Transient):  # it counts as one try more
            services.coordinator.end(step, ids)
