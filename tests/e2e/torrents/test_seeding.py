"""Torrents that seed."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from tests.e2e.stack import Stack
from tests.e2e.torrents.cases import DONE_S, each
from tests.e2e.torrents.doors import tree
from tests.torrents import FILES


@each
def test_a_torrent_is_done_while_it_seeds_and_forgotten_at_the_ratio(both: Stack, seeded: dict[str, Future[str]], engine: str) -> None:
    id = seeded[engine].result(2 * DONE_S)

    job = both.job(id)
    assert (job.state, job.seeding) == ("done", False)
    both.check_gone(job)
    assert job.result is not None
    assert tree(Path(job.result.path)) == FILES
    assert both.told(id) == ["job.queued", "job.started", "job.completed"]
