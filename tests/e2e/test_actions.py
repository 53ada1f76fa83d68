"""Pause, resume, cancel and retry in every state that allows them, asked from the records, from aria2 and from the origin."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually
from tests.origin import Origin
from worker.jobs.errors import Conflict, NotFound
from worker.jobs.states import State

RATE = 500_000
SIZE = 1_500_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose engine takes two downloads at once."""
    with Stack(tmp_path_factory.mktemp("small"), slots=2) as running:
        running.work()
        yield running


@pytest.fixture
def slow(small: Stack, user: str) -> Iterator[list[str]]:
    """Four jobs that take long, on the small stack: the first two are given to the engine, the others wait in this order."""
    ids = small.ask_all([{"uri": slow_path(f"{user}-{n}", size=20_000_000), "user": user} for n in range(4)])
    two_run = lambda: sorted(states(small, ids)) == ["downloading", "downloading", "queued", "queued"]  # noqa: E731
    eventually(two_run, "two run and two wait", seen=lambda: states(small, ids))
    yield sorted(ids, key=lambda id: (small.job(id).state, small.services.coordinator.waiting_place(id, user) or 0))
    small.cancel_all(ids)


def slow_path(name: str, *, kind: str = "file", size: int = SIZE, rate: int = RATE) -> str:
    return f"{kind}/{name}?size={size}&rate={rate}"


def states(stack: Stack, ids: list[str]) -> list[str]:
    return [str(stack.job(id).state) for id in ids]


@contextmanager
def engine_hangs(stack: Stack) -> Iterator[None]:
    """aria2c stands still inside this block."""
    os.kill(stack.aria2.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stack.aria2.process.pid, signal.SIGCONT)


def gone(stack: Stack, id: str) -> None:
    """Cancelled: aria2, asked itself, does not know it, nothing of it is on the disk, and the outside was told."""
    job = stack.until(id, "cancelled")
    stack.check_gone(job)
    assert not (stack.downloads / id).exists()
    assert stack.told(id)[-1] == "job.cancelled"


# ---- pause and resume ----


def test_a_paused_download_keeps_its_bytes_and_goes_on_from_them(stack: Stack, user: str) -> None:
    id = stack.ask(slow_path(user), user)
    stack.until_bytes(f"/file/{user}", SIZE // 3)

    stack.act(id, "pause")
    job = stack.until(id, "paused")
    assert stack.rpc("tellStatus", stack.gid(job), ["status"])["status"] == "paused"
    served = stack.origin.bytes_served[f"/file/{user}"]
    assert served < SIZE

    stack.act(id, "resume")
    stack.check_delivered(id, digest(SIZE))
    assert stack.origin.bytes_served[f"/file/{user}"] <= SIZE + SLACK_BYTES
    assert stack.told(id) == ["job.queued", "job.started", "job.paused", "job.resumed", "job.started", "job.completed"]


def test_the_progress_of_a_running_download_is_shown_as_it_goes(stack: Stack, user: str) -> None:
    id = stack.ask(slow_path(user), user)

    def shown() -> int:
        progress = stack.services.coordinator.progress({"aria2": [id]}).get(id)
        return progress.done if progress else 0

    seen = [eventually(lambda floor=floor: (done := shown()) > floor and done, f"more than {floor} bytes") for floor in (0, SIZE // 2)]
    assert SIZE // 2 < seen[1] <= SIZE
    stack.check_delivered(id, digest(SIZE))


def test_a_paused_download_of_unknown_length_is_right_after_it_goes_on(stack: Stack, user: str) -> None:
    id = stack.ask(slow_path(user, kind="nolength"), user)
    stack.until_bytes(f"/nolength/{user}", SIZE // 3)

    stack.act(id, "pause")
    stack.until(id, "paused")
    stack.act(id, "resume")

    stack.check_delivered(id, digest(SIZE))


def test_a_pause_that_is_taken_back_at_once_does_no_harm(stack: Stack, user: str) -> None:
    id = stack.ask(slow_path(user), user)
    stack.until(id, "downloading")

    for action in ("pause", "pause", "resume", "resume", "pause", "resume"):
        stack.act(id, action)

    stack.check_delivered(id, digest(SIZE))


def test_a_pause_frees_the_slot_for_the_next_job(small: Stack, slow: list[str]) -> None:
    small.act(slow[0], "pause")
    small.until(slow[2], "downloading")

    assert states(small, slow) == ["paused", "downloading", "downloading", "queued"]
    small.act(slow[0], "resume")
    assert small.job(slow[0]).state is State.QUEUED
    small.act(slow[1], "cancel")
    small.act(slow[2], "cancel")
    small.until(slow[0], "downloading")


def test_a_waiting_job_is_paused_at_once_and_let_by(small: Stack, slow: list[str]) -> None:
    assert small.act(slow[2], "pause").state is State.PAUSED
    small.act(slow[0], "cancel")
    small.until(slow[3], "downloading")
    assert small.job(slow[2]).state is State.PAUSED

    small.act(slow[2], "resume")
    small.act(slow[1], "cancel")
    small.until(slow[2], "downloading")


@pytest.fixture
def one_at_a_time(small: Stack) -> Iterator[None]:
    """aria2 itself runs one download and lets the second wait."""
    small.rpc("changeGlobalOption", {"max-concurrent-downloads": "1"})
    yield
    small.rpc("changeGlobalOption", {"max-concurrent-downloads": "2"})


@pytest.mark.usefixtures("one_at_a_time")
def test_a_job_in_the_engines_own_queue_can_be_paused_and_cancelled(small: Stack, slow: list[str]) -> None:
    gids = {small.gid(small.job(id)): id for id in slow[:2]}
    eventually(lambda: small.rpc("tellWaiting", 0, 10, ["gid"]), "aria2 lets one of them wait")
    [waiting] = [gids[row["gid"]] for row in small.rpc("tellWaiting", 0, 10, ["gid"])]

    small.act(waiting, "pause")
    job = small.until(waiting, "paused")
    assert small.rpc("tellStatus", small.gid(job), ["status"])["status"] == "paused"
    small.until(slow[2], "downloading")
    small.act(waiting, "cancel")
    gone(small, waiting)


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_an_action_while_the_job_is_handed_over_is_done_when_the_engine_answers_again(small: Stack, user: str, action: str) -> None:
    with engine_hangs(small):
        ids = small.ask_all([{"uri": slow_path(f"{user}-{n}", size=20_000_000), "user": user} for n in range(2)])
        eventually(
            lambda: states(small, ids) == ["submitting", "submitting"], "both are being handed over", seen=lambda: states(small, ids)
        )
        for id in ids:
            small.act(id, action)

    for id in ids:
        if action == "cancel":
            gone(small, id)
        else:
            small.until(id, "paused")
    if action == "pause":
        rows = [small.rpc("tellStatus", small.gid(small.job(id)), ["status"]) for id in ids]
        assert {row["status"] for row in rows if row} <= {"paused"}
        small.act(ids[0], "resume")
        small.until(ids[0], "downloading")
        small.cancel_all(ids)


# ---- cancel ----


def test_a_running_download_is_cancelled_with_all_that_was_fetched(stack: Stack, user: str) -> None:
    id = stack.ask(slow_path(user), user)
    stack.until_bytes(f"/file/{user}", 100_000)

    stack.act(id, "cancel")

    gone(stack, id)
    assert stack.origin.bytes_served[f"/file/{user}"] < SIZE


def test_a_paused_download_is_cancelled_with_all_that_was_fetched(stack: Stack, user: str) -> None:
    id = stack.ask(slow_path(user), user)
    stack.until_bytes(f"/file/{user}", 100_000)
    stack.act(id, "pause")
    stack.until(id, "paused")

    stack.act(id, "cancel")

    gone(stack, id)


def test_a_waiting_job_is_cancelled_at_once(small: Stack, slow: list[str]) -> None:
    assert small.act(slow[3], "cancel").state is State.CANCELLED
    gone(small, slow[3])


def test_a_resumed_job_that_waits_for_a_slot_is_cancelled_with_what_was_fetched(small: Stack, slow: list[str]) -> None:
    small.act(slow[0], "pause")
    small.until(slow[2], "downloading")
    small.act(slow[0], "resume")
    assert small.job(slow[0]).state is State.QUEUED

    small.act(slow[0], "cancel")

    gone(small, slow[0])


def test_a_job_that_waits_to_be_moved_into_place_can_still_be_cancelled(stack: Stack, user: str) -> None:
    finishing = stack.services.coordinator
    eventually(lambda: finishing.claim("finish:quick", user, 30), "nobody finishes anything")
    try:
        id = stack.ask(f"file/{user}?size=100000", user)
        stack.until(id, "finishing")
        stack.act(id, "cancel")
        gone(stack, id)
    finally:
        finishing.unclaim("finish:quick", user)


# ---- retry ----


def test_a_retry_goes_on_with_what_a_failed_job_had_fetched(stack: Stack, user: str) -> None:
    with Origin() as first:
        port = first.port
        id = stack.ask(first.url(slow_path(user)), user)
        eventually(lambda: first.bytes_served[f"/file/{user}"] > SIZE // 2, "half of it is here")
    before = first.bytes_served[f"/file/{user}"]
    assert stack.until(id, "failed", timeout_s=60).cause in ("unreachable", "interrupted")

    with Origin(port=port) as second:
        stack.act(id, "retry")
        stack.check_delivered(id, digest(SIZE))
        assert second.bytes_served[f"/file/{user}"] <= SIZE - before + SLACK_BYTES


def test_a_retry_of_a_cancelled_job_begins_again_under_the_same_id(stack: Stack, user: str) -> None:
    id = stack.ask(slow_path(user), user)
    stack.until_bytes(f"/file/{user}", 100_000)
    stack.act(id, "cancel")
    stack.until(id, "cancelled")

    assert stack.act(id, "retry").attempt == 2

    stack.check_delivered(id, digest(SIZE))
    assert stack.told(id)[-4:] == ["job.cancelled", "job.queued", "job.started", "job.completed"]


# ---- what is refused ----


def test_what_a_state_does_not_allow_is_refused_and_changes_nothing(stack: Stack, user: str) -> None:
    id = stack.ask(f"file/{user}?size=1000", user)
    done = stack.until(id, "done")
    eventually(lambda: not stack.job(id).unsent, "all is told")

    for action in ("pause", "resume", "cancel", "retry"):
        with pytest.raises(Conflict, match=r"is done"):
            stack.act(id, action)
    with pytest.raises(NotFound, match="there is no job"):
        stack.act("0" * 24, "pause")

    assert stack.job(id).version == done.version
    assert done.result is not None
    assert Path(done.result.path).exists()
