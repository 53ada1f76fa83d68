"""Sources and engines that fail a download: what is tried again, where, and when it is given up"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.aria2 import Aria2Http
from tests.contract.engine_suite import http_order, submitted, until_status
from tests.e2e.engines import aria2c_program
from tests.e2e.stack import Stack, digest, eventually, story
from tests.faults.catalogue import fault
from tests.origin import Origin, content
from tests.torrents import Seeder, pack, web_seeded
from worker import pipeline
from worker.engines.aria2 import faults as aria2_faults
from worker.jobs.directories import work_directory
from worker.jobs.model import Job
from worker.jobs.states import Cause, Reason, State
from worker.limits import STALLED_S
from worker.ports import ItemStatus

BOTH = ("aria2", "qbittorrent")
SIZE = 200_000
#: What is tried again after a minute begins by then.
LATER_S = 120


class Impatient(Stack):
    """Torrents have fifteen seconds for their description, everything has six for 64 KiB."""

    def environment(self) -> dict[str, str]:
        """See `Stack.environment`."""
        return {**super().environment(), "HAUL_METADATA_TIMEOUT_S": "15", "HAUL_STALL_TIMEOUT_S": "6"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of this test alone, with aria2 and a worker."""
    with Stack(tmp_path / "s") as running:
        running.work()
        yield running


def why(stack: Stack, id: str) -> str:
    return pipeline.why(stack.services, id).text


def torrent(stack: Stack, name: str, seed: int) -> str:
    """A torrent with the origin as its web seed, for any engine; the job's id."""
    made = web_seeded(stack.origin, pack({name: content(SIZE, seed)}, name=name, single=True))
    return stack.ask(None, "u", torrent=base64.b64encode(made.document).decode())


def block(stack: Stack, id: str, engine: str) -> None:
    """Put a file where the work directory is to be."""
    place = Path(work_directory(str(stack.downloads), id, engine))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def waiting(stack: Stack, id: str, failures: int) -> Job:
    """The job once it waits for its next try after so many."""

    def look() -> Job | None:
        job = stack.job(id)
        return job if job.state is State.QUEUED and job.failures == failures else None

    return eventually(look, f"it waits after {failures} tries", seen=lambda: f"{story(stack.job(id))}\n{stack.tail(30)}")


@fault(
    "A server answers a question for the rest of a file with the whole of it, or with another part",
    provoked="a connection that is cut in the middle, then no ranges, or wrong ones, each time it is asked",
    holds="aria2 lives on; the file is fetched once anew and delivered with the right bytes, or the job fails by its cause in words",
)
def test_a_server_that_answers_ranges_wrongly_costs_one_more_fetch(stack: Stack) -> None:
    whole = stack.ask(f"whole/x?at=50000&size={SIZE}&seed=1", "u")
    wrong = stack.ask(f"shifted/y?at=50000&size={SIZE}&seed=2", "u")
    stack.until(whole, "done")
    job = stack.job(whole)
    assert job.result is not None
    assert Path(job.result.path).read_bytes() == content(SIZE, 1)
    assert [event.text for event in job.events if "from the start" in event.text], story(job)
    assert stack.until(wrong, "done", "failed").state is State.FAILED
    assert stack.job(wrong).cause is Cause.HTTP or stack.job(wrong).cause is Cause.INTERRUPTED
    assert "`retry` starts it again" in why(stack, wrong)
    assert stack.aria2.process.poll() is None, "aria2 lives"


@fault(
    "A file arrives with other bytes than its checksum says",
    provoked="the first answer of a server is another file of the same size; and one that is always another",
    holds="the bytes are thrown away and it is fetched once anew; then it is delivered, or fails with both checksums in words",
)
def test_bytes_with_another_checksum_are_fetched_once_anew(stack: Stack) -> None:
    right, wrong = digest(SIZE, 5), digest(SIZE, 6)
    heals = stack.ask(f"other/x?times=1&size={SIZE}&seed=5", "u", sha256=right)
    stays = stack.ask(f"other/y?times=9&size={SIZE}&seed=5", "u", sha256=right)
    stack.until(heals, "done")
    path = stack.job(heals).result
    assert path is not None
    assert path.sha256 == right
    assert (stack.job(heals).attempt, stack.origin.requests["/other/x"]) == (2, 2)
    job = stack.until(stays, "failed")
    assert (job.cause, stack.origin.requests["/other/y"]) == (Cause.CHECKSUM, 2)
    assert job.message == f"the checksum is {wrong} and should be {right}; it was fetched 2 times"
    for id in (heals, stays):
        eventually(lambda id=id: not list(stack.downloads.glob(f".haul/{id}*")), "nothing is left of either")


@fault(
    "A server has too many requests and says when to come back (Retry-After)",
    provoked="429 with a time, to Haul's question and to the engine",
    holds="no job of it reaches an engine before its time; then all are delivered",
)
def test_a_busy_server_is_left_alone_until_its_time(stack: Stack) -> None:
    begun = time.monotonic()
    ids = [stack.ask(f"flaky/{n}?fails=1&status=429&after=6&size={SIZE}&seed={n}", "u") for n in range(4)]
    for id in ids:
        job = eventually(lambda id=id: (job := stack.job(id)).reason is Reason.SCHEDULE and job, "it is told to wait")
        assert (job.attempt, job.transfer) == (1, None), story(job)
        assert "the server says there are too many requests (status 429)" in why(stack, id)
    assert not any(stack.origin.requests[f"/flaky/{n}"] for n in range(4)), "no engine has asked"
    for number, id in enumerate(ids):
        stack.until(id, "done")
        result = stack.job(id).result
        assert result is not None
        assert Path(result.path).read_bytes() == content(SIZE, number)
    assert time.monotonic() - begun >= 6


@fault(
    "An engine cannot make the work directory of a job",
    provoked="a file is in the place of the directory, of aria2 for some jobs and of both engines for one",
    holds="the job goes to the other engine, as a new attempt, and is delivered once; when both fail, it fails and its message names each",
)
def test_what_is_the_engines_fault_goes_to_another_engine(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", engines=BOTH) as stack:
        ids = [torrent(stack, f"t{n}", n) for n in range(4)]
        hopeless = torrent(stack, "hopeless", 9)
        for id in (*ids, hopeless):
            block(stack, id, "aria2")
        block(stack, hopeless, "qbittorrent")
        stack.work()
        for number, id in enumerate(ids):
            stack.until(id, "done")
            result = stack.job(id).result
            assert result is not None
            assert Path(result.path).read_bytes() == content(SIZE, number)
        moved = [id for id in ids if any("aria2: the work directory cannot be made" in event.text for event in stack.job(id).events)]
        assert moved, "some began at aria2"
        for id in moved:
            job = stack.job(id)
            assert (job.attempt, job.avoid, job.tried) == (2, (), ()), story(job)
            assert stack.told(id) == ["job.queued", "job.started", "job.completed"]
        job = stack.until(hopeless, "failed")
        assert job.cause is Cause.DISK
        assert job.message is not None
        assert {part.partition(":")[0] for part in job.message.split("; ")} == set(BOTH)
        assert " on aria2 and qbittorrent" in why(stack, hopeless) or " on qbittorrent and aria2" in why(stack, hopeless)


@fault(
    "Nobody sends the description of a torrent",
    provoked="a magnet link without a client that has it, on both engines; one comes later",
    holds="it is tried on each engine, then waits and says so, and is delivered once somebody has it; nothing is left of the first tries",
)
def test_a_dead_magnet_link_is_tried_on_each_engine_and_again_when_somebody_may_have_come(tmp_path: Path) -> None:
    with Impatient(tmp_path / "s", engines=BOTH) as stack:
        stack.work()
        made = pack({"x": content(SIZE, 3)}, name="x", single=True, trackers=(stack.origin.url("announce"),))
        id = stack.ask(made.magnet(), "u")
        eventually(lambda: "no description for" in why(stack, id), "it says what it waits for", seen=lambda: why(stack, id))
        job = waiting(stack, id, 2)
        assert {entry.engine for entry in job.tried} == set(BOTH), story(job)
        assert {entry.cause for entry in job.tried} == {Cause.METADATA}
        assert "no peer sent the description" in (job.message or "")
        with Seeder(aria2c_program(), tmp_path / "seeder", stack.origin, made):
            stack.until(id, "done", timeout_s=LATER_S)
        stack.check_delivered(id, digest(SIZE, 3), "x")


@fault(
    "A server sends a few bytes a second, for ever",
    provoked="a file at 2 kB/s where 64 KiB have to come in six seconds",
    holds="the slot is given to others; the job is tried again later, from what is on the disk, and says so",
)
def test_a_drip_does_not_keep_a_slot(tmp_path: Path) -> None:
    with Impatient(tmp_path / "s", slots=1) as stack:
        stack.work()
        drip = stack.ask("file/drip?size=9000000&rate=2000", "u")
        stack.until(drip, "downloading")
        other = stack.ask(f"file/other?size={SIZE}&seed=4", "u")
        job = waiting(stack, drip, 1)
        assert [(entry.cause, entry.times) for entry in job.tried] == [(Cause.STALLED, 1)]
        assert "came for 6 s" in job.events[-1].text
        stack.until(other, "done")
        stack.cancel_all([drip])


@fault(
    "A server falls silent in the middle of a file",
    provoked="a connection that stays open and sends nothing more, once",
    holds="aria2's own time-out ends it, and the file is continued, not fetched anew",
)
def test_a_server_that_falls_silent_is_asked_for_the_rest(stack: Stack) -> None:
    id = stack.ask(f"stop/x?at=50000&size={SIZE}&seed=8", "u")
    stack.until(id, "done")
    stack.check_delivered(id, digest(SIZE, 8), "x")
    assert stack.origin.bytes_served["/stop/x"] < SIZE + 20_000


assert STALLED_S > 6, "what is impatient here is given up before it is shown as stalled"


@fault(
    "An aria2 of somebody else's gives up what is slow, and its disk takes no file as long as one that comes",
    provoked="a lowest speed in aria2's own settings and a server below it; a limit on the length of files (`ulimit -f`) below that of "
    "a file that is fetched",
    holds="both have causes of their own, as docs/failures.md says: the slow one is tried again, the other is the disk's",
)
def test_a_lowest_speed_of_aria2s_own_and_a_file_too_long_for_its_disk_have_their_causes(tmp_path: Path) -> None:
    limited = tmp_path / "aria2c"
    limited.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 1000\nexec {aria2c_program()} \"$@\"\n")
    limited.chmod(0o700)
    with Origin() as origin, closing(Aria2Http(limited, tmp_path, origin)) as aria2:
        aria2.call("aria2.changeGlobalOption", {"lowest-speed-limit": "1M"})
        slow = submitted(aria2, http_order(aria2, "slow", path="/file/slow?size=1000000&rate=10000"))
        long = submitted(aria2, http_order(aria2, "long", path="/file/long?size=30000000"))
        assert until_status(aria2, long, ItemStatus.FAILED).fault == aria2_faults.BY_CODE[17]
        assert until_status(aria2, slow, ItemStatus.FAILED).fault == aria2_faults.BY_CODE[5]
