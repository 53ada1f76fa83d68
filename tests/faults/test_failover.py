"""Engines that die, with another one beside them"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.e2e.engines import Aria2
from tests.e2e.stack import SLACK_BYTES, Stack, eventually
from tests.e2e.test_failover import ask, breaker, check, engine_of, rows
from tests.faults.catalogue import fault
from tests.faults.downloads import RATE, ask_torrent, put_right
from tests.faults.downloads import ask as ask_one
from tests.faults.downloads import check as check_one
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.pipeline import why

JOBS = 100
#: Of each job; all run for this time and a little more.
SIZE, SLOW = 1_000_000, 60_000
FAILOVER_S = "5"
ENDS_S = 240.0


def killed(stack: Stack, engine: str = "aria2") -> None:
    stack.engines[engine].server.process.kill()
    stack.engines[engine].server.process.wait()


def revived(stack: Stack, engine: str = "aria2") -> None:
    stack.engines[engine].server.restart()
    stack.engines[engine].server.await_ready()


def on(stack: Stack, ids: list[str], engine: str) -> list[str]:
    """Those of the jobs that are at this engine."""
    found: dict[str, Job] = stack.services.store.get(ids)
    return [id for id in ids if engine_of(found[id]) == engine]


@fault(
    "One of two engines dies with half of 100 running jobs, and comes back later",
    provoked="kill -9 aria2c; it is started again, with its session, when all jobs have ended",
    holds="all end on the other with the right bytes, each once; the revived one is given nothing before it answered and one job until "
    "that got bytes; its leftover downloads and work directories go",
)
def test_a_hundred_jobs_of_a_killed_engine_end_on_the_other(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", slots=JOBS, engines=("aria2", "aria2-2")) as stack:
        stack.work(HAUL_FAILOVER_S=FAILOVER_S)
        jobs = ask(stack, range(JOBS), SIZE, SLOW)
        stack.until_all(list(jobs), "downloading")
        lost = on(stack, list(jobs), "aria2")
        assert len(lost) == JOBS / 2
        eventually(lambda: all(stack.origin.bytes_served[f"/file/f{n}"] > SLOW for n in jobs.values()), "all have bytes", 60, stack.tail)
        killed(stack)
        stack.until_all(list(jobs), timeout_s=ENDS_S)
        assert {stack.job(id).attempt for id in lost} == {2}
        assert put_right(stack, "move") == len(lost)
        assert all(stack.told(id).count("job.completed") == 1 for id in jobs)

        late = ask(stack, range(JOBS, JOBS + 4), 100_000)
        stack.until_all(list(late))
        assert on(stack, list(late), "aria2") == []
        revived(stack)
        check(stack, jobs, SIZE)
        aria2 = stack.engines["aria2"]
        assert isinstance(aria2, Aria2)
        assert rows(aria2) == []
        eventually(lambda: breaker(stack, "aria2") == "half-open", "it answers", 60, stack.tail)
        again = ask(stack, range(200, 210), 100_000)
        stack.until_all(list(again), timeout_s=ENDS_S)
        eventually(lambda: breaker(stack, "aria2") == "closed", "it is trusted", 60, stack.tail)
        assert on(stack, list(again), "aria2")
        check(stack, again, 100_000)
        check(stack, late, 100_000)


@fault(
    "The supervisor dies while it moves the jobs of a dead engine",
    provoked="kill -9 aria2c; the worker is killed after the first batch was written, and another one starts",
    holds="all end on the other engine, each once",
)
def test_a_supervisor_that_dies_while_it_moves_jobs_leaves_none_behind(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", engines=("aria2", "aria2-2")) as stack:
        first = stack.work(HAUL_FAILOVER_S="2", HAUL_FAILPOINT="departure.recorded:kill:1")
        jobs = ask(stack, range(12), SIZE, SLOW * 2)
        stack.until_all(list(jobs), "downloading")
        killed(stack)
        eventually(lambda: first.ended() is not None, "it dies", 60, stack.tail)
        stack.work(ready=False, HAUL_FAILOVER_S="2")
        stack.until_all(list(jobs), timeout_s=ENDS_S)
        assert {engine_of(stack.job(id)) for id in jobs} == {"aria2-2"}
        assert all(stack.told(id).count("job.completed") == 1 for id in jobs)
        revived(stack)
        check(stack, jobs, SIZE)


@fault(
    "An engine stands still for longer than its jobs wait for it, and then goes on as if nothing had been",
    provoked="SIGSTOP to aria2c until its jobs run elsewhere, then SIGCONT; meanwhile one of them is cancelled and one names the engine",
    holds="what it had of the others is removed, with its files; they end where they went; the one that names it ends there, as the same "
    "attempt",
)
def test_an_engine_that_hung_does_no_harm_when_it_goes_on(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", engines=("aria2", "aria2-2")) as stack:
        stack.work(HAUL_FAILOVER_S="2")
        jobs = ask(stack, range(8), SIZE * 3, SLOW)
        named = ask_one(stack, "aria2", "named", RATE * 8)
        stack.until_all([*jobs, named], "downloading")
        moving = on(stack, list(jobs), "aria2")
        process = stack.aria2.process.pid
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        for pid in (process, *map(int, children)):
            os.kill(pid, signal.SIGSTOP)
        try:
            stack.act(moving[0], "cancel")
            stack.until(moving[0], "cancelled", timeout_s=90)
            eventually(lambda: on(stack, moving[1:], "aria2-2") == moving[1:], "they go on elsewhere", 90, stack.tail)
            told = why(stack.services, named).text
            assert "has not answered for" in told
            assert "asked for by name" in told
        finally:
            for pid in (process, *map(int, children)):
                os.kill(pid, signal.SIGCONT)
        stack.until_all([id for id in jobs if id != moving[0]] + [named], timeout_s=ENDS_S)
        check(stack, {id: n for id, n in jobs.items() if id != moving[0]}, SIZE * 3)
        check_one(stack, named, "named", RATE * 8)
        assert (stack.job(named).attempt, stack.job(moving[0]).state) == (1, State.CANCELLED)
        eventually(lambda: not list(stack.downloads.glob(".haul/*")), "no work directory is left", 90, stack.tail)


@fault(
    "An engine is killed and started again at once",
    provoked="kill -9 aria2c with its jobs running; it is started after three seconds",
    holds="they go on there, as the same attempts, from what they had",
)
def test_a_restart_moves_no_job(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", engines=("aria2", "aria2-2")) as stack:
        stack.work()
        jobs = ask(stack, range(6), SIZE, SLOW)
        stack.until_all(list(jobs), "downloading")
        there = on(stack, list(jobs), "aria2")
        eventually(
            lambda: all(stack.origin.bytes_served[f"/file/f{jobs[id]}"] > SLOW * 6 for id in there), "they have bytes", 60, stack.tail
        )
        killed(stack)
        eventually(lambda: "engine aria2" in stack.tail(), "it is noticed", 30)
        revived(stack)
        stack.until_all(list(jobs), timeout_s=ENDS_S)
        assert on(stack, there, "aria2") == there
        assert {stack.job(id).attempt for id in jobs} == {1}
        assert all(stack.origin.bytes_served[f"/file/f{jobs[id]}"] <= SIZE + 7 * SLOW + SLACK_BYTES for id in there)


@fault(
    "qBittorrent dies with a torrent that aria2 can fetch as well",
    provoked="kill -9 qbittorrent-nox while a torrent with a web seed runs there; started again once the job has ended",
    holds="aria2 fetches it to the end, with the right bytes; qBittorrent, back, forgets it",
)
def test_a_torrent_goes_on_at_the_other_kind_of_engine(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", engines=("aria2", "qbittorrent")) as stack:
        stack.work(HAUL_FAILOVER_S="2", HAUL_BALANCER="least-loaded")
        busy = ask_one(stack, "aria2", "busy", RATE * 60)
        stack.until(busy, "downloading")
        id = ask_torrent(stack, "torrent", RATE * 10)
        stack.until(id, "downloading")
        assert engine_of(stack.job(id)) == "qbittorrent"
        killed(stack, "qbittorrent")
        stack.until(id, "done", timeout_s=ENDS_S)
        assert (engine_of(stack.job(id)), stack.job(id).attempt) == ("aria2", 2)
        revived(stack, "qbittorrent")
        stack.act(busy, "cancel")
        check_one(stack, id, "torrent", RATE * 10)
