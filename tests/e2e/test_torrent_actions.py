"""Pause, resume, cancel and retry of torrents, in every state that allows them, asked from the records and from each engine itself.

A torrent is fetched from the origin, as its web seed, at a rate of the test's choice. Checking what is on the disk is over too soon
to be caught here.
"""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually, story
from tests.origin import content
from tests.torrents import Pack, pack, web_seeded
from worker.jobs.errors import Conflict
from worker.jobs.states import Phase, Reason

ENGINES = ("aria2", "qbittorrent")
SIZE, RATE = 1_500_000, 1_000_000
#: In the way: it is fetched until somebody cancels it.
LONG_RATE = 30_000
#: As the engines call what stands still.
STOPPED = frozenset({"paused", "pausedDL", "stoppedDL"})

pytestmark = pytest.mark.parametrize("engine", ENGINES)


@dataclass(frozen=True)
class One:
    """A job for a torrent of one file."""

    stack: Stack
    id: str
    made: Pack

    @property
    def served(self) -> int:
        """Bytes of its file that the origin gave."""
        return self.stack.origin.bytes_served[f"/doc/{self.made.infohash}/{self.made.name}"]

    def until_served(self, more_than: int) -> None:
        """Return when some of it has come."""
        eventually(lambda: self.served > more_than, f"more than {more_than} bytes", seen=lambda: story(self.stack.job(self.id)))

    def status(self) -> str | None:
        """What its engine says of it."""
        job = self.stack.job(self.id)
        return self.stack.engines[str(job.engine)].status(self.stack.gid(job))

    def check_delivered(self) -> None:
        """The file is in place, and nothing is left elsewhere."""
        self.stack.check_delivered(self.id, digest(SIZE), self.made.name)

    def check_gone(self) -> None:
        """Cancelled: no engine knows it, nothing of it is on the disk, and the outside was told."""
        job = self.stack.until(self.id, "cancelled")
        self.stack.check_gone(job)
        assert not (self.stack.downloads / self.id).exists()
        assert self.stack.told(self.id)[-1] == "job.cancelled"


def ask(stack: Stack, user: str, engine: str, rate: int = RATE) -> One:
    """A torrent nobody else has, fetched at this rate."""
    made = web_seeded(stack.origin, pack({"only": content(SIZE)}, name=f"{user}.bin", single=True), rate=rate)
    return One(stack, stack.ask(None, user, torrent=base64.b64encode(made.document).decode(), engine=engine), made)


@contextmanager
def engine_hangs(stack: Stack, engine: str) -> Iterator[None]:
    """It stands still inside this block."""
    pid = stack.engines[engine].server.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# ---- queued, while its description is awaited --------------------------------------------------------------------


def test_a_job_that_waits_for_its_torrent_file_can_be_paused_resumed_cancelled_and_asked_for_again(
    both: Stack, user: str, engine: str
) -> None:
    id = both.ask(f"hang/{user}.torrent", user, engine=engine)
    assert (both.job(id).state, both.job(id).reason) == ("queued", Reason.DESCRIPTION)

    assert both.act(id, "pause").state == "paused"
    resumed = both.act(id, "resume")
    assert (resumed.state, resumed.reason) == ("queued", Reason.DESCRIPTION)
    assert both.act(id, "retry").state == "queued", "it runs already"
    assert both.act(id, "cancel").state == "cancelled"
    assert both.act(id, "retry").attempt == 2
    assert both.act(id, "cancel").state == "cancelled"
    assert both.told(id) == [f"job.{what}" for what in ("queued", "paused", "resumed", "cancelled", "queued", "cancelled")]


def test_a_job_paused_before_its_torrent_file_came_goes_on_when_it_is_resumed(both: Stack, user: str, engine: str) -> None:
    made = web_seeded(both.origin, pack({"only": content(SIZE)}, name=f"{user}.bin", single=True))
    url = both.origin.document(f"{user}.torrent", made.document)
    one = One(both, both.ask(url, user, engine=engine), made)
    both.act(one.id, "pause")
    both.until(one.id, "paused")
    both.act(one.id, "resume")
    one.check_delivered()


# ---- submitting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_an_action_while_a_torrent_is_handed_over_is_done_when_the_engine_answers_again(
    both: Stack, user: str, action: str, engine: str
) -> None:
    with engine_hangs(both, engine):
        one = ask(both, user, engine, LONG_RATE)
        both.until(one.id, "submitting")
        both.act(one.id, action)

    if action == "cancel":
        one.check_gone()
        return
    both.until(one.id, "paused")
    eventually(lambda: one.status() in {None, *STOPPED}, "it does not run", seen=one.status)
    both.act(one.id, "resume")
    both.until(one.id, "downloading")
    both.act(one.id, "cancel")
    one.check_gone()


# ---- downloading -------------------------------------------------------------------------------------------------


def test_a_magnet_link_that_waits_for_its_description_can_be_paused_resumed_and_cancelled(both: Stack, user: str, engine: str) -> None:
    made = pack(name=user, trackers=(both.origin.url("announce"),))
    one = One(both, both.ask(made.magnet(), user, engine=engine), made)
    looking = lambda: both.job(one.id).phase is Phase.METADATA  # noqa: E731
    eventually(looking, "it looks for its description", seen=lambda: story(both.job(one.id)))

    both.act(one.id, "pause")
    both.until(one.id, "paused")
    eventually(lambda: one.status() in STOPPED, "it stands still", seen=one.status)
    both.act(one.id, "resume")
    both.until(one.id, "downloading")
    eventually(looking, "it looks again", seen=lambda: story(both.job(one.id)))
    both.act(one.id, "cancel")
    one.check_gone()


def test_a_paused_torrent_keeps_its_bytes_and_goes_on_from_them(both: Stack, user: str, engine: str) -> None:
    one = ask(both, user, engine)
    one.until_served(SIZE // 3)

    both.act(one.id, "pause")
    both.until(one.id, "paused")
    eventually(lambda: one.status() in STOPPED, "it stands still", seen=one.status)
    assert one.served < SIZE
    both.act(one.id, "resume")

    one.check_delivered()
    assert one.served <= SIZE + SLACK_BYTES
    assert both.told(one.id) == [f"job.{what}" for what in ("queued", "started", "paused", "resumed", "started", "completed")]


def test_a_pause_that_is_taken_back_at_once_does_a_torrent_no_harm(both: Stack, user: str, engine: str) -> None:
    one = ask(both, user, engine)
    both.until(one.id, "downloading")

    for action in ("pause", "pause", "resume", "resume", "pause", "resume"):
        both.act(one.id, action)

    one.check_delivered()


def test_a_running_torrent_is_cancelled_with_all_that_was_fetched_and_can_be_asked_for_again(both: Stack, user: str, engine: str) -> None:
    one = ask(both, user, engine)
    one.until_served(100_000)

    both.act(one.id, "cancel")
    one.check_gone()
    assert one.served < SIZE

    assert both.act(one.id, "retry").attempt == 2
    one.check_delivered()
    assert both.told(one.id)[-4:] == ["job.cancelled", "job.queued", "job.started", "job.completed"]


def test_a_paused_torrent_is_cancelled_with_all_that_was_fetched(both: Stack, user: str, engine: str) -> None:
    one = ask(both, user, engine)
    one.until_served(100_000)
    both.act(one.id, "pause")
    both.until(one.id, "paused")

    both.act(one.id, "cancel")

    one.check_gone()


# ---- finishing, and done -----------------------------------------------------------------------------------------


def test_a_torrent_that_waits_to_be_moved_into_place_can_still_be_cancelled(both: Stack, user: str, engine: str) -> None:
    finishing = both.services.coordinator
    eventually(lambda: finishing.claim("finish:quick", user, 60), "nobody finishes anything")
    try:
        one = ask(both, user, engine, rate=0)
        both.until(one.id, "finishing")
        with pytest.raises(Conflict, match="is finishing"):
            both.act(one.id, "pause")
        both.act(one.id, "cancel")
        one.check_gone()
    finally:
        finishing.unclaim("finish:quick", user)


def test_a_torrent_that_is_done_and_seeds_allows_no_action_and_seeds_on(both: Stack, user: str, engine: str) -> None:
    made = web_seeded(both.origin, pack({"only": content(SIZE)}, name=f"{user}.bin", single=True))
    id = both.ask(None, user, torrent=base64.b64encode(made.document).decode(), engine=engine, seed_ratio=2.0)
    job = both.until(id, "done")
    assert job.seeding, story(job)

    for action in ("pause", "resume", "cancel", "retry"):
        with pytest.raises(Conflict, match="is done"):
            both.act(id, action)

    assert both.job(id).seeding
    assert both.engines[engine].knows(both.gid(job))
