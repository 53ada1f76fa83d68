"""`haul watch`: jobs as they move, in a table, in lines, or as JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import Exit, by_engine, print_json, progress_text, state_text, title

if TYPE_CHECKING:
    from rich.table import Table

    from worker.jobs.model import Job, Progress
    from worker.ports import JobStore

LOOK_EVERY_S = 0.5
LINE_EVERY_S = 2.0
ROWS_MAX = 50
#: Jobs that have ended stay in the table, the last so many.
ENDED_MAX = 10

Show = Callable[[Sequence["Job"], Mapping[str, "Progress"]], None]


def watch(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…]", help="Jobs to watch until they end; without, all until Ctrl-C.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Watch jobs. With ids it ends when they have, with 1 unless all are done. With --json it prints a line for each change.

    Example: haul watch 3f2a9c
    """
    from worker.cli.connect import connected, find_job
    from worker.jobs.states import State

    jobs: list[Job] = []
    try:
        with connected() as services:
            chosen = [find_job(services.store, id).id for id in ids or ()]
            with _shown(as_json) as show:
                for jobs in _looks(services.store, chosen):
                    show(jobs, services.coordinator.progress(by_engine(jobs)))
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED if ids else Exit.OK) from None
    raise typer.Exit(Exit.OK if all(job.state is State.DONE for job in jobs) else Exit.FAILED)


def _looks(store: JobStore, chosen: Sequence[str]) -> Iterator[list[Job]]:
    """The jobs, again and again: the chosen ones until all have ended, or the live ones and the last that ended."""
    from worker.jobs.states import LIVE
    from worker.ports import JobFilter

    seen: list[str] = []
    while True:
        if not chosen:
            live = store.page(JobFilter(states=tuple(LIVE)), ROWS_MAX).jobs
            ended = [job for job in store.get(seen).values() if job.terminal][-ENDED_MAX:]
            seen = [job.id for job in (*ended, *live)]
        known = store.get(chosen or seen)
        jobs = [known[id] for id in chosen or seen if id in known]
        yield jobs
        if chosen and all(job.terminal for job in jobs):
            return
        time.sleep(LOOK_EVERY_S)


@contextmanager
def _shown(as_json: bool) -> Iterator[Show]:
    if as_json or not sys.stdout.isatty():
        yield _changes(_json_line if as_json else _text_line, 0.0 if as_json else LINE_EVERY_S)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False) as live:
        yield lambda jobs, fresh: live.update(_table(jobs, fresh), refresh=True)


def _changes(write: Callable[[Job, Progress], None], progress_every_s: float) -> Show:
    """Writes each job at its first sight, at each change, and while bytes come, at most every so often."""
    told: dict[str, tuple[int, int, float]] = {}

    def show(jobs: Sequence[Job], fresh: Mapping[str, Progress]) -> None:
        now = time.monotonic()
        for job in jobs:
            progress = fresh.get(job.id, job.progress)
            version, done, at = told.get(job.id, (0, -1, 0.0))
            if job.version != version or (progress.done != done and not job.terminal and now - at >= progress_every_s):
                told[job.id] = (job.version, progress.done, now)
                write(job, progress)

    return show


def _json_line(job: Job, progress: Progress) -> None:
    from worker.jobs.view import job_view

    view: dict[str, Any] = job_view(job, progress)
    del view["timeline"]
    print_json(view)


def _text_line(job: Job, progress: Progress) -> None:
    sys.stdout.write("  ".join(filter(None, (job.id, state_text(job), progress_text(job, progress), title(job)))) + "\n")
    sys.stdout.flush()


def _table(jobs: Sequence[Job], fresh: Mapping[str, Progress]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("job", "state", "progress", "what", box=None, pad_edge=False)
    for job in jobs:
        cells = (job.id, state_text(job), progress_text(job, fresh.get(job.id, job.progress)), title(job))
        table.add_row(*map(Text, cells))
    return table
