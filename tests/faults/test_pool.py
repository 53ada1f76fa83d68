"""Engines that are drained, or taken out of the settings, while everything around them dies"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.pool import RATE, SIZE, Pool
from tests.e2e.stack import Stack, eventually, sha256, story
from tests.faults.catalogue import fault
from tests.origin import Origin
from worker.jobs.events import EventType
from worker.jobs.states import IN_SLOT, Reason, State
from worker.limits import LEASE_S
from worker.pipeline import why
from worker.supervision.relocation.abandoned import ABANDONED_S

SLOW = RATE // 8
#: A job of each engine fills its slots for so long.
ALL_S = 180.0


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool(tmp_path / "stack", slots=2) as pool:
        pool.second()
        pool.write("aria2", "aria2-b")
        yield pool


def delivered(pool: Pool, ids: dict[str, int]) -> None:
    """Every job is done once, with its own bytes."""
    for job in pool.until_all(list(ids), timeout_s=ALL_S):
        assert job.result is not None, story(job)
        assert sha256(Path(job.result.path)) == pool.digest(ids[job.id])
        assert [event.type for event in job.events].count(EventType.COMPLETED) == 1
        assert job.result.size == SIZE


@fault(
    "A supervisor dies while it moves the downloads of a drained engine to others, and Redis is emptied",
    provoked="kill -9 between the record and the call to the engine (departure.recorded), FLUSHALL; another supervisor is started",
    holds="the engine is still drained and forgets what it had; each job is done once by the other, with the right bytes",
)
def test_a_move_to_other_engines_goes_on_after_its_supervisor_died_and_redis_was_emptied(pool: Pool) -> None:
    doomed = pool.work(HAUL_FAILPOINT="departure.recorded:kill:1")
    ids = pool.ask_files(4, rate=SLOW)
    eventually(lambda: len(pool.running("aria2")) == 2 and pool.running("aria2-b"), "both are at work", 30, pool.tail)
    there = pool.running("aria2")
    assert pool.haul("engines", "drain", "aria2", "--move", "--yes").returncode == 0
    eventually(lambda: doomed.ended() is not None, "the supervisor dies", 30, pool.tail)
    with Redis.from_url(pool.redis.url) as redis:
        redis.flushall()
    aria2 = pool.engines["aria2"]
    handles = [pool.services.engines["aria2"].handle(id, 1) for id in there]
    assert any(map(aria2.knows, handles)), "the engine was not told"
    assert {pool.job(id).state for id in there} == {State.QUEUED}
    pool.work(ready=False)
    eventually(lambda: not any(map(aria2.knows, handles)), "it forgets what is fetched elsewhere", 2 * LEASE_S + 60, pool.tail)
    late = pool.ask_files(6)
    delivered(pool, {**ids, **late})
    assert {job.transfer.engine for job in pool.services.store.get(late).values() if job.transfer} == {"aria2-b"}
    assert pool.state("aria2") == "drained"


@fault(
    "An engine is taken out of the settings while everything is stopped, and has jobs",
    provoked="the only worker is killed, the line is taken out of the file of engines, a worker is started that does not know the engine",
    holds="a minute after nobody looks after the engine its jobs are fetched by another one; each is done once, with the right bytes",
)
def test_jobs_of_an_engine_that_nobody_knows_any_more_are_done_by_another(pool: Pool) -> None:
    worker = pool.work()
    ids = pool.ask_files(4, rate=SLOW)
    eventually(lambda: len(pool.running("aria2")) == 2 and pool.running("aria2-b"), "both are at work", 30, pool.tail)
    there = pool.running("aria2")
    worker.kill()
    pool.write("aria2-b")
    pool.engines["aria2"].server.stop()
    pool.work(ready=False)
    again = "engine aria2 is not set up any more"
    eventually(
        lambda: all(any(again in event.text for event in pool.job(id).events) for id in there),
        "they are queued for another engine",
        ABANDONED_S + 2 * LEASE_S + 60,
        pool.tail,
    )
    delivered(pool, ids)


@fault(
    "Twenty jobs want files of one slow server, and then some of another one",
    provoked="HAUL_JOBS_PER_HOST=3, two engines with twenty slots; the worker is killed in the middle, and another one is started",
    holds="three at once download from the first, over both engines, whatever is killed; those of the other start at once; all are done",
)
def test_no_more_jobs_than_may_download_from_one_server(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", slots=10, engines=("aria2", "aria2-2")) as stack, Origin(host="127.0.0.2") as other:
        limit = {"HAUL_JOBS_PER_HOST": "3"}
        first = stack.work(**limit)
        crowded = stack.ask_all([{"uri": f"file/c{n}?size=300000&seed={n}&rate=200000", "user": f"u{n % 4}"} for n in range(20)])
        free = f"http://127.0.0.2:{other.port}/file"
        quick = stack.ask_all([{"uri": f"{free}/q{n}?size=1000&seed={n}", "user": "late"} for n in range(3)])
        most, killed = 0, False

        def watched() -> bool:
            nonlocal most, killed
            jobs = stack.services.store.get(crowded).values()
            at_work = sum(job.state in IN_SLOT for job in jobs)
            most = max(most, at_work)
            assert at_work <= 3
            if not killed and sum(job.state is State.DONE for job in jobs) >= 5:
                killed = True
                first.kill()
                stack.work(ready=False, **limit)
            return all(job.state is State.DONE for job in jobs)

        waiting = eventually(
            lambda: next((id for id in crowded[::-1] if stack.job(id).reason is Reason.SLOTS), ""), "one waits", 30, stack.tail
        )
        told = replace(stack.services, settings=stack.services.settings.model_copy(update={"jobs_per_host": 3}))
        words = "3 jobs download from 127.0.0.1, as many as may at once"
        eventually(lambda: why(told, waiting).text.startswith(words), words, 30, stack.tail)
        stack.until_all(quick)
        assert not all(stack.job(id).state is State.DONE for id in crowded), "they did not wait for the others"
        eventually(watched, "all are done", ALL_S, stack.tail)
        assert (most, killed) == (3, True)
        assert all(stack.job(id).attempt == 1 for id in crowded)
