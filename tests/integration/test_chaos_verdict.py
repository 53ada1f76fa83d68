"""The judge of the chaos run finds what it is there to find."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import plan
from tests.chaos.tokens import Disturbances, exceeded
from tests.chaos.verdict import Verdict, judge
from tests.chaos.wishes import Wish, draw
from tests.origin import Origin, content
from worker.jobs.events import Event, EventType
from worker.jobs.model import Job, Result, Source, SourceKind
from worker.jobs.states import Cause, State

WISH = Wish(7, size=3000, rate=0, engine="aria2", door="api", promised="queued")


class Scene:
    """One wish that went well: done, with its bytes in place and everything told. Tests spoil it."""

    def __init__(self, downloads: Path) -> None:
        self.downloads = downloads
        self.wish = replace(WISH, acted=[])
        self.file = downloads / self.wish.id / self.wish.name()
        self.file.parent.mkdir()
        self.file.write_bytes(content(self.wish.size, self.wish.number))
        job = Job(self.wish.id, self.wish.user, self.wish.key, Source(SourceKind.HTTP, "http://x/"), "c", version=0)
        job = job.noted(1.0, "queued", event=EventType.QUEUED).moved(State.SUBMITTING, 1.0, "admitted")
        job = job.moved(State.DOWNLOADING, 1.0, "begun", event=EventType.STARTED).moved(State.FINISHING, 1.0, "here")
        self.job: Job | None = job.moved(State.DONE, 1.0, "in place", event=EventType.COMPLETED, result=Result(str(self.file), 3000))
        self.notices = [{"id": f"{job.id}:{event.version}", "job": job.id} for event in self.job.events if event.type]
        self.posts: list[dict[str, str]] = []
        self.origin = Origin()
        self.origin.bytes_served[f"/file/{self.wish.name()}"] = 3000
        self.deaths: dict[str, list[float]] = {}

    def serve(self, *ends: tuple[float, int]) -> None:
        """These answers went up to the last byte."""
        self.origin.ends[f"/file/{self.wish.name()}"] += ends

    def judge(self) -> Verdict:
        jobs = {self.job.id: self.job} if self.job else {}
        return judge(
            [self.wish], jobs, self.origin, self.deaths, {"stream": self.notices, "webhook": self.posts or self.notices}, self.downloads
        )


@pytest.fixture
def scene(tmp_path: Path) -> Any:
    scene = Scene(tmp_path)
    yield scene
    scene.origin._server.server_close()


def test_what_went_well_is_good(scene: Scene) -> None:
    scene.serve((1.0, 0), (2.0, 2500))
    verdict = scene.judge()
    assert verdict.good, verdict.details
    assert (verdict.jobs, verdict.served_over_needed) == ({"done": 1}, 1.0)


def test_no_record_and_no_end_are_lost(scene: Scene) -> None:
    assert scene.job is not None
    scene.job = replace(scene.job, state=State.DOWNLOADING)
    assert (scene.judge().lost, scene.judge().good) == (1, False)
    scene.job = None
    assert (scene.judge().lost, scene.judge().good) == (1, False)


def test_a_failure_counts_unless_there_is_nothing_to_be_had(scene: Scene) -> None:
    assert scene.job is not None
    scene.job = replace(scene.job, state=State.FAILED, cause=Cause.ENGINE)
    assert scene.judge().failed == 1
    scene.job = replace(scene.job, cause=Cause.NOT_FOUND)
    assert scene.judge().failed == 1
    scene.wish.missing = True
    assert scene.judge().good


def test_wrong_bytes_no_bytes_and_a_cancel_of_nobody_are_wrong(scene: Scene) -> None:
    scene.file.write_bytes(content(3000, 8))
    assert scene.judge().wrong == 1
    scene.file.unlink()
    scene.file.parent.rmdir()
    scene.job = replace(scene.job, result=None) if scene.job else None
    assert scene.judge().wrong == 1
    scene.job = replace(scene.job, state=State.CANCELLED) if scene.job else None
    assert scene.judge().wrong == 1
    scene.wish.acted.append("cancel")
    assert scene.judge().good


def test_a_second_file_and_a_second_download_are_twice(scene: Scene) -> None:
    scene.file.with_suffix(".1.bin").write_bytes(b"")
    assert scene.judge().twice == 1
    scene.file.with_suffix(".1.bin").unlink()
    scene.serve((10.0, 0), (20.0, 0))
    assert scene.judge().twice == 1


def test_what_two_users_want_may_be_fetched_twice_and_not_three_times(scene: Scene) -> None:
    assert scene.job is not None
    like = replace(WISH, number=8, like=7, acted=[])
    other = replace(scene.job, id=like.id, user=like.user)
    place = scene.downloads / like.id / like.name()
    place.parent.mkdir()
    place.write_bytes(content(3000, 7))
    other = replace(other, result=Result(str(place), 3000))
    told = [{"id": f"{job.id}:{event.version}", "job": job.id} for job in (scene.job, other) for event in job.events if event.type]

    def judged() -> Verdict:
        jobs = {job.id: job for job in (scene.job, other) if job}
        return judge([scene.wish, like], jobs, scene.origin, {}, {"stream": told}, scene.downloads)

    scene.serve((1.0, 0), (20.0, 0))
    assert judged().good, judged().details
    scene.serve((40.0, 0))
    assert judged().twice == 1
    place.unlink()
    assert judged().wrong == 1, "a follower without its file"


def test_what_fits_nowhere_has_to_be_refused_before_a_byte_is_fetched(scene: Scene) -> None:
    assert scene.job is not None
    scene.wish.hopeless = True
    scene.job = replace(scene.job, state=State.FAILED, cause=Cause.REFUSED)
    scene.origin.bytes_served.clear()
    assert scene.judge().good
    scene.origin.bytes_served[f"/file/{scene.wish.name()}"] = 1
    assert scene.judge().wrong == 1
    scene.job = replace(scene.job, cause=Cause.DISK)
    assert scene.judge().failed == 1


def test_more_starts_than_tokens_are_seen_in_any_span_of_time(scene: Scene) -> None:
    regular = [float(n) for n in range(60)]
    assert exceeded(regular, 1.0, 4, Disturbances()) == 0
    burst = [*regular, *[30.0 + n / 10 for n in range(9)]]
    assert exceeded(sorted(burst), 1.0, 4, Disturbances()) > 0
    assert exceeded(sorted(burst), 1.0, 4, Disturbances(losses=[31.0])) == 0, "a bucket that was lost is full"
    assert exceeded(sorted(burst), 1.0, 4, Disturbances(frozen=[(25.0, 32.0)])) == 0, "tokens that were taken before count later"
    assert exceeded([], 1.0, 4, Disturbances()) == 0
    assert scene.job is not None
    admitted = [Event(n, 100.0, "admitted to aria2", None, {}) for n in range(20)]
    scene.job = replace(scene.job, events=(*scene.job.events, *admitted))
    assert (scene.judge().tokens_exceeded > 0, scene.judge().good) == (True, False)


def test_a_second_download_after_its_engine_died_is_the_engines(scene: Scene) -> None:
    scene.serve((10.0, 0), (20.0, 0))
    scene.deaths = {"aria2": [9.5, 30.0]}
    assert (scene.judge().twice, scene.judge().ends_again) == (0, 1)
    scene.deaths = {"aria2": [8.0, 21.0], "qbittorrent": [15.0]}
    assert (scene.judge().twice, scene.judge().ends_again) == (1, 0)


def test_what_was_not_told_or_told_in_another_order_is_seen(scene: Scene) -> None:
    told = scene.notices
    scene.notices = [*told, told[0]]
    assert scene.judge().good, "a repeat is allowed"
    scene.notices = told[:-1]
    assert scene.judge().notices_missing == 2
    scene.notices = [told[1], told[0], told[2]]
    assert scene.judge().notices_out_of_order == 2
    scene.notices, scene.posts = told, told[1:]
    assert scene.judge().notices_missing == 1


def test_a_seed_draws_the_same_jobs_and_the_same_faults() -> None:
    members, proxies = ["aria2", "prefork", "supervisor-1"], ["redis", "aria2"]
    assert draw(random.Random(3), 50) == draw(random.Random(3), 50) != draw(random.Random(4), 50)
    first, again = (list(plan.draw(random.Random(3), 50, members, proxies)) for _ in range(2))
    assert first == again
    assert {blow.target for blow in first} <= {*members, *proxies}


def test_an_origin_notes_whole_answers_and_those_of_the_end(tmp_path: Path) -> None:
    import requests

    with Origin() as origin:
        url = origin.url("file/x?size=1000")
        requests.get(url, timeout=5)
        requests.get(url, headers={"Range": "bytes=900-"}, timeout=5)
        requests.get(url, headers={"Range": "bytes=0-99"}, timeout=5)
        begun = time.monotonic()
    assert [start for _, start in origin.ends["/file/x"]] == [0, 900]
    assert all(at <= begun for at, _ in origin.ends["/file/x"])
