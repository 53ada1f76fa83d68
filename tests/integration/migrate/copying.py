"""The command `haul store migrate`, in this process or one of its own, and what is in a store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tests.integration.ended import Ended
from tests.integration.grown import everything
from worker.jobs.model import Job
from worker.ports import Run
from worker.store import open_store

TIMEOUT_S = 60.0
#: Jobs, and runs, of the installation; most tests are content with the small one.
LARGE, SMALL = 960, 160
Haul = Callable[..., Ended]


def started_haul(tmp_path: Path, *arguments: str, failpoint: str) -> subprocess.Popen[str]:
    """`haul store migrate` as a process of its own."""
    environment = {**os.environ, "HAUL_DATA_DIR": str(tmp_path / "data"), "HAUL_FAILPOINT": failpoint}
    command = [sys.executable, "-m", "worker.cli", "store", "migrate", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def everything_in(url: str) -> tuple[list[Job], list[Run], dict[str, bytes]]:
    with closing(open_store(url)) as store:
        return everything(store)


def nothing(doing: str, done: int, total: int) -> None:
    """Between batches of a test that watches no progress."""


def recorded(url: str, jobs: Sequence[Job] = (), runs: Sequence[Run] = ()) -> tuple[list[Job], list[Run], dict[str, bytes]]:
    """Put these into a store; all it has then."""
    with closing(open_store(url)) as store:
        store.insert(jobs)
        store.keep_runs(runs)
        return everything(store)
