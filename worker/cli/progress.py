"""What `haul get` shows: bars on a terminal, else lines, both on stderr; and at the end, on stdout, where the files are."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from worker.cli.bar import LINE_EVERY_S, bars
from worker.cli.output import Exit, note, print_json, progress_text, state_text, title
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.jobs.view import job_view
from worker.notation.sizes import size_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

BARS_MAX = 16
TITLE_CHARS_MAX = 40


class Display:
    """A context manager around the wait; `result` afterwards says how it ended.

    Args:
        as_json: show nothing, and print one JSON list of jobs at the end.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lines: dict[str, str] = {}
        self._line_at = 0.0

    def __enter__(self) -> Display:
        if not self._json and sys.stderr.isatty():
            self._bars = bars()
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def show(self, jobs: Sequence[Job], fresh: Mapping[str, Progress]) -> None:
        """Show the jobs as they are now."""
        if self._bars:
            self._draw(self._bars, jobs, fresh)
        elif not self._json and time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_S
            self._write([job for job in jobs if not job.terminal], fresh)

    def already(self, job: Job) -> None:
        """Say that nothing has to be fetched."""
        if not self._json:
            note(f"already downloaded: {title(job)}")

    def interrupted(self, owned: bool) -> None:
        """Say what a Ctrl-C did."""
        note("stopped; the same command continues" if owned else "no longer watching; the running stack goes on with it")

    def result(self, jobs: Sequence[Job]) -> Exit:
        """Print paths and sizes, and what went wrong; the command's exit code."""
        if self._json:
            print_json([job_view(job) for job in jobs])
        else:
            for job in jobs:
                _tell(job)
        return Exit.OK if all(job.state is State.DONE for job in jobs) else Exit.FAILED

    def _draw(self, bars: Bars, jobs: Sequence[Job], fresh: Mapping[str, Progress]) -> None:
        live = 0
        for job in jobs:
            live += not job.terminal
            progress = fresh.get(job.id, job.progress)
            if job.id not in self._tasks:
                self._tasks[job.id] = bars.add_task("", total=None, detail="")
            bars.update(
                self._tasks[job.id],
                description=title(job)[:TITLE_CHARS_MAX],
                total=progress.total or (1 if job.state is State.DONE else None),
                completed=(progress.total or 1) if job.state is State.DONE else progress.done,
                detail=_detail(job, progress),
                visible=len(jobs) <= BARS_MAX or (live <= BARS_MAX and not job.terminal),
            )

    def _write(self, jobs: Sequence[Job], fresh: Mapping[str, Progress]) -> None:
        for job in jobs[:BARS_MAX]:
            line = f"{title(job)}: {_detail(job, fresh.get(job.id, job.progress))}"
            if self._lines.get(job.id) != line:
                self._lines[job.id] = line
                sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _detail(job: Job, progress: Progress) -> str:
    if job.state is State.DOWNLOADING and job.phase in (None, "transfer"):
        return progress_text(job, progress) or "connecting"
    return " ".join(filter(None, (state_text(job), progress_text(job, progress))))


def _tell(job: Job) -> None:
    if job.state is State.DONE and job.result:
        checksum = f"  sha256 {job.result.sha256}" if job.result.sha256 else ""
        sys.stdout.write(f"{job.result.path}  {size_text(job.result.size)}{checksum}\n")
    elif job.state is State.FAILED:
        note(f"{job.source.shown}: {job.message or job.cause}")
    else:
        note(f"{job.source.shown}: {job.state}")
