"""Torrents that never come."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.engines import newest_aria2c_program
from tests.e2e.stack import Stack, eventually, story
from tests.e2e.torrents.cases import DONE_S, PATIENCE_S, each
from tests.e2e.torrents.doors import Asked, check_in_place
from tests.torrents import Seeder
from worker import pipeline


@each
@pytest.mark.parametrize(("cause", "attempts"), [("metadata", 3), ("stalled", 3)])
def test_a_torrent_that_nobody_has_is_tried_again_and_given_up_with_its_cause(
    impatient: Stack, dead: dict[tuple[str, str], Asked], cause: str, attempts: int, engine: str
) -> None:
    job = impatient.until(dead[cause, engine].id, "failed", timeout_s=DONE_S)

    assert (job.cause, job.attempt) == (cause, attempts), story(job)
    assert f"{PATIENCE_S} s" in pipeline.why(impatient.services, job.id).text
    handles = [impatient.services.engines[engine].handle(job.id, n + 1) for n in range(attempts)]
    eventually(lambda: not any(map(impatient.engines[engine].knows, handles)), "the engine forgets it")
    assert not (impatient.downloads / job.id).exists()


@each
def test_a_retry_of_a_torrent_that_was_given_up_finds_who_has_it_now(
    impatient: Stack, dead: dict[tuple[str, str], Asked], tmp_path: Path, engine: str
) -> None:
    asked = dead["stalled", engine]
    before = impatient.until(asked.id, "failed", timeout_s=DONE_S)

    with Seeder(newest_aria2c_program(), tmp_path, impatient.origin, asked.made):
        impatient.act(asked.id, "retry")
        check_in_place(impatient, asked)

    assert impatient.job(asked.id).attempt > before.attempt
