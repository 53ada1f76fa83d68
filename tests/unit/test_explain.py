"""What a bot can pass on of a job that stalls, is tried again, or has failed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.jobs_by_hypothesis import a_job
from worker.admission import explain
from worker.jobs.model import Job, Transfer
from worker.jobs.retries import POLICIES
from worker.jobs.states import Cause, Phase, State
from worker.jobs.tried import Tried
from worker.settings import Settings, load

AT = datetime(2026, 11, 22, 17, 40, tzinfo=UTC).timestamp()
NOW = 10_000.0
TWICE = (Tried("aria2", Cause.METADATA, "no peer sent it", 2), Tried("qbittorrent", Cause.METADATA, "nobody is there"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(data_dir=tmp_path, timezone="Europe/Berlin")


def running(phase: Phase | None, since: float, **changes: object) -> Job:
    transfer = Transfer("t", "aria2", 1, "/w", 0.0)
    return a_job(state=State.DOWNLOADING, phase=phase, phase_at=since, transfer=transfer, reason=None, **changes)


def test_a_stalled_download_says_since_when_and_until_when_in_the_operators_time_zone(settings: Settings) -> None:
    text = explain.stalled(running(Phase.STALLED, NOW - 660), settings, AT, NOW)
    assert text == "no byte for 12 min; tried again later at 19:28 unless something comes"


def test_the_last_try_says_that_it_is_the_last(settings: Settings) -> None:
    tried = (Tried("aria2", Cause.STALLED, "no byte", POLICIES[Cause.STALLED].tries),)
    text = explain.stalled(running(Phase.STALLED, NOW - 660, tried=tried), settings, AT, NOW)
    assert "; given up at 19:28 unless something comes; 2 tries before this on aria2, the last: no byte" in text


def test_a_magnet_link_without_a_description_says_so(settings: Settings) -> None:
    text = explain.stalled(running(Phase.METADATA, NOW - 60), settings, AT, NOW)
    assert text == "no description for 60 s; tried again later at 18:49 unless something comes"


@pytest.mark.parametrize("phase", [None, Phase.TRANSFER, Phase.CHECKING])
def test_a_download_that_goes_on_has_nothing_to_say(settings: Settings, phase: Phase | None) -> None:
    assert explain.stalled(running(phase, NOW - 60), settings, AT, NOW) == ""


@pytest.mark.parametrize("cause", list(Cause))
def test_a_failed_job_says_what_was_tried_where_and_what_its_user_can_do(cause: Cause) -> None:
    text = explain.failed(a_job(state=State.FAILED, cause=cause, message="the words", tried=TWICE))
    assert text.startswith("it failed: the words; it was tried 3 times on aria2 and qbittorrent; ")
    assert POLICIES[cause].hint in text
    assert ("`retry` starts it again" in text) == (cause is not Cause.REFUSED)


def test_a_job_that_waits_for_another_try_says_where_it_was_tried_and_where_it_goes() -> None:
    assert explain.so_far(a_job()) == ""
    text = explain.so_far(a_job(tried=TWICE, avoid=("aria2",)))
    assert text == "; 3 tries so far on aria2 and qbittorrent; other engines go first, where one can take it"
