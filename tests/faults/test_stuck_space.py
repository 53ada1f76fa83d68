"""Space: all that is left of a disk is held by downloads that wait for more of it"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, digest, eventually, sha256, story
from tests.faults.catalogue import fault
from tests.faults.test_disk import Small, fill, free, small_volume
from worker.jobs.states import TERMINAL, Cause, Reason, State

MIB = 1024 * 1024
VOLUME = 128 * MIB
SIZE = 80 * MIB
RATE = 8 * MIB
#: A standstill, what is deleted by the reconciliation of the next minute, and the downloads.
TIMEOUT_S = 400
STANDSTILL = "for nothing on the disk could go on"


class Impatient(Small):
    """A standstill is ended soon."""

    def environment(self) -> dict[str, str]:
        """See `Stack.environment`."""
        return {**super().environment(), "HAUL_SPACE_PATIENCE_S": "5"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """At work on a small disk."""
    with Impatient(tmp_path / "s") as stack, small_volume(stack.downloads, VOLUME / 1_000_000):
        stack.work()
        yield stack


def taken_away(stack: Stack, ids: list[str], timeout_s: float) -> list[str]:
    """Take each finished file away once it is looked at, until every job has ended; the ids in the order they ended."""
    ended: list[str] = []
    deadline = time.monotonic() + timeout_s
    while left := [id for id in ids if id not in ended]:
        stories = [story(stack.job(id)) for id in left]
        assert time.monotonic() < deadline, f"{free(stack.downloads) // MIB} MiB free; {stories}\n{stack.tail(30)}"
        for id, job in stack.services.store.get(left).items():
            if job.state not in TERMINAL:
                continue
            assert job.state is State.DONE, f"{story(job)}\n{stack.tail(30)}"
            assert job.result is not None
            assert sha256(job.result.path) == digest(SIZE), story(job)
            Path(job.result.path).unlink()
            ended.append(id)
        time.sleep(0.1)
    return ended


@fault(
    "Two downloads of unknown size fill a disk between them, and wait for space",
    provoked="a tmpfs of 128 MiB, two files of 80 MiB from a server that tells no length and answers no ranges, side by side",
    holds="the one asked for last lets go of its bytes, the first goes on; both end as done, one after the other, with the right bytes",
)
def test_two_downloads_of_unknown_size_that_fill_a_disk_are_done_one_after_the_other(stack: Stack) -> None:
    ids = [stack.ask(f"nolength/{name}?size={SIZE}&rate={RATE}", "u") for name in ("first", "second")]
    ended = taken_away(stack, ids, TIMEOUT_S)
    first, second = (stack.job(id) for id in ids)
    print(f"{story(first)}\n{story(second)}")
    assert ended == ids
    assert [sum(STANDSTILL in event.text for event in job.events) for job in (first, second)] == [0, 1]
    assert stack.told(ids[1])[-1] == "job.completed"


@fault(
    "A download of unknown size, larger than all the room there is, has filled the disk, and others wait",
    provoked="a tmpfs of 128 MiB with 40 MiB of somebody else's, a file of 400 MiB without a length, then one of 30 MiB",
    holds="it fails with the cause `disk`, in words, what it fetched is deleted, and the other ends as done with the right bytes",
)
def test_a_download_that_can_never_be_complete_gives_way_to_one_that_can(stack: Stack) -> None:
    fill(stack.downloads, VOLUME - 40 * MIB)
    runaway = stack.ask(f"nolength/runaway?size={400 * MIB}&rate={RATE}", "u")
    eventually(lambda: stack.job(runaway).reason is Reason.SPACE, "it fills the disk", seen=lambda: story(stack.job(runaway)))
    other = stack.ask(f"file/other?size={30 * MIB}", "v")
    job = stack.until(runaway, "failed", timeout_s=TIMEOUT_S)
    assert job.cause is Cause.DISK
    assert job.message is not None
    assert "all the room there was for it" in job.message
    assert stack.told(runaway) == ["job.queued", "job.started", "job.failed"]
    stack.until(other, "done", timeout_s=TIMEOUT_S)
    stack.check_delivered(other, digest(30 * MIB))
    print(f"{story(stack.job(runaway))}\n{story(stack.job(other))}")
