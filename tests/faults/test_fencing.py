"""Owners that were overtaken.

An engine belongs to whoever holds its lease. A holder that stood still or was cut off, and goes on when another has the
lease, must write nothing, give the engine no order and delete nothing.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import pytest
import requests
from pymongo import MongoClient
from redis import Redis

from tests.contract.counting import Counting
from tests.e2e.processes import Program, Worker
from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually
from tests.faults.apart import StoreApart
from tests.faults.catalogue import fault
from tests.faults.load import SHARE, check_told
from tests.faults.load import SIZE as SMALL
from worker.cli.servers import free_port
from worker.jobs.states import State
from worker.limits import LEASE_GIVE_UP_S, LEASE_S
from worker.supervision.lease import engine_lease

pytestmark = pytest.mark.usefixtures("nothing_is_left")

SIZE = 200_000
RATE = 300_000
START_S = 60.0
#: From the moment a holder stands still until another has its engine: the lease, a look of the next one, and a busy machine.
TAKEOVER_S = LEASE_S + 15
#: A failpoint that hangs holds its thread up for a minute.
HANG_S = 60.0
WORKER = ("celery", "-A", "worker", "worker", "-P", "threads", "-c", "4", "--without-gossip", "--without-mingle")


def pair(stack: Stack, point: str) -> tuple[Worker, Worker]:
    """A worker whose thread stands still for a minute when it comes to a point, and another one."""
    return stack.work(HAUL_FAILPOINT=f"{point}:hang:1"), stack.work(ready=False)


def taken_over(stack: Stack, by: Worker | Program) -> None:
    """Return when this one looks after the engine."""
    eventually(lambda: stack.owner() == by.pid, "the other one takes over", TAKEOVER_S, stack.tail)


def gives_up(stack: Stack) -> None:
    """Return when the one that stood still has gone on, and found that its lease is another's."""
    eventually(lambda: "another looks after the engine now" in stack.tail(1000), "it goes on and gives up", HANG_S, stack.tail)


def untouched(stack: Stack, id: str, meanwhile: str) -> None:
    """The record of a job that is done stays as it is while another job is done by whoever owns the engine."""
    check_told(stack, [id])
    before, served = stack.job(id), dict(stack.origin.bytes_served)
    stack.check_delivered(stack.ask(f"file/{meanwhile}?size={SIZE}&seed=9", "after"), digest(SIZE, 9))
    assert stack.job(id) == before
    assert {path: stack.origin.bytes_served[path] for path in served} == served
    stack.check_gone(before)


def overtaken(stack: Stack, point: str) -> str:
    """A job whose owner stands still at a point: another one does it, once, and nothing of it changes when the first one goes on."""
    _, second = pair(stack, point)
    id = stack.ask(f"file/x.bin?size={SIZE}", "u")
    taken_over(stack, second)
    stack.check_delivered(id, digest(SIZE), "x.bin")
    gives_up(stack)
    untouched(stack, id, "after")
    assert stack.origin.requests["/file/x.bin"] == 1
    return id


@fault(
    "An owner stands still between what it wrote down and the call to its engine",
    provoked="it hangs for a minute there; its lease ends, another takes over and does the job",
    holds="when it goes on it gives the engine no order: the file is fetched once, and the engine knows nothing of it any more",
)
def test_an_owner_that_was_overtaken_before_its_call_gives_no_order(stack: Stack) -> None:
    overtaken(stack, "start.intent")


@fault(
    "An owner stands still between the call to its engine and the record of it",
    provoked="it hangs for a minute there; another takes over, finds the item at the engine and does the job",
    holds="the file is fetched once; when the first one goes on it writes nothing",
)
def test_an_owner_that_was_overtaken_after_its_call_writes_nothing(stack: Stack) -> None:
    id = overtaken(stack, "start.submitted")
    assert stack.job(id).attempt == 1


@fault(
    "An owner stands still between the removal of a cancelled job and the deletion of its files",
    provoked="it hangs for a minute there; another takes over and cancels the job, which is asked for again and runs",
    holds="when the first one goes on it deletes nothing: the job is done as its second attempt, and no byte of that came twice",
)
def test_an_owner_that_was_overtaken_while_it_cancelled_deletes_nothing(stack: Stack) -> None:
    size = RATE * 40
    _, second = pair(stack, "cancel.removed")
    id = stack.ask(f"file/x.bin?size={size}&rate={RATE}", "u")
    stack.until_bytes("/file/x.bin", RATE // 2)
    stack.until(id, "downloading")
    stack.act(id, "cancel")
    taken_over(stack, second)
    stack.until(id, "cancelled")
    served = stack.origin.bytes_served["/file/x.bin"]
    stack.act(id, "retry")
    stack.until(id, "downloading")
    gives_up(stack)
    job = stack.until(id, "done", timeout_s=80)
    stack.check_delivered(id, digest(size), "x.bin")
    assert job.attempt == 2
    assert stack.origin.bytes_served["/file/x.bin"] <= served + size + SLACK_BYTES


@fault(
    "A worker stands still between the intent of a move and the move",
    provoked="it hangs for a minute there; its claim ends and another worker finishes the job",
    holds="one file, in the place that was written down; when the first one goes on it changes neither record nor files",
)
def test_a_worker_that_was_overtaken_in_a_finish_changes_nothing(stack: Stack) -> None:
    pair(stack, "finish.intended")
    id = stack.ask(f"file/x.bin?size={SIZE}", "u")
    eventually(lambda: stack.job(id).result, "its place is written down")
    place = stack.job(id).result
    stack.check_delivered(id, digest(SIZE), "x.bin")
    with Redis.from_url(stack.redis.url) as redis:
        eventually(lambda: not redis.hlen("unacked"), "the one that stood still has gone on, and acknowledged", HANG_S + 20, stack.tail)
    untouched(stack, id, "after")
    assert stack.job(id).result == place
    stack.check_delivered(id, digest(SIZE), "x.bin")


@fault(
    "A supervisor stands still for longer than its lease and goes on",
    provoked="SIGSTOP to its process while downloads run, SIGCONT when another has taken over and ended them",
    holds="it neither writes nor asks the engine for a change; each file is fetched once; the engine stays with the other",
)
def test_a_supervisor_that_was_stopped_past_its_lease_does_nothing_when_it_goes_on(stack: Stack) -> None:
    stack.run(*WORKER)
    with Counting(urlsplit(stack.aria2.url).port or 0) as calls:
        first = stack.run("worker.cli", "supervise", HAUL_ENGINES=through(stack, calls))
        eventually(lambda: stack.owner() == first.pid, "the first one looks after the engine", START_S, stack.tail)
        running = stack.ask_all([{"uri": f"file/r{n}?size={RATE * 5}&rate={RATE}", "user": "u"} for n in range(3)])
        stack.until_bytes("/file/r0", RATE // 2, START_S)
        stand_still(stack, first)
        counted = calls.requests.total()
        try:
            second = stack.run("worker.cli", "supervise")
            taken_over(stack, second)
            stack.until_all(running)
            check_told(stack, running)
            before = stack.services.store.get(running)
        finally:
            first.signal(signal.SIGCONT)
        gives_up(stack)
        stack.check_delivered(stack.ask(f"file/after?size={SIZE}", "after"), digest(SIZE))
        assert stack.owner() == second.pid
        assert stack.services.store.get(running) == before
        assert set(stack.origin.requests.values()) == {1}
        assert calls.requests.total() - counted <= 2, "what it was about to ask when it was stopped, and nothing else"


def through(stack: Stack, calls: Counting) -> str:
    """The engines of a stack, with aria2 behind a proxy that counts."""
    port = str(urlsplit(stack.aria2.url).port)
    return stack.environment()["HAUL_ENGINES"].replace(f":{port}/", f":{calls.port}/")


def stand_still(stack: Stack, process: Program) -> None:
    """SIGSTOP; not while it writes, for then SQLite lets nobody write until it goes on."""

    def stopped() -> bool:
        os.kill(process.pid, signal.SIGSTOP)
        if stack.may_write():
            return True
        os.kill(process.pid, signal.SIGCONT)
        return False

    eventually(stopped, "it stands still and holds no lock")


@fault(
    "An owner cannot renew its lease",
    provoked="the store answers it no more (MongoDB: it alone, behind a proxy; SQLite: its lock is held)",
    holds="20 s later it asks its engine for nothing any more; on MongoDB another owns the engine 30 s after the last renewal, on SQLite "
    "it goes on when the lock is free; each file is fetched once",
)
def test_an_owner_that_cannot_renew_stops_by_itself(stack: Stack) -> None:
    stack.run(*WORKER)
    with Counting(urlsplit(stack.aria2.url).port or 0) as calls, StoreApart(stack) as store:
        first = stack.run("worker.cli", "supervise", HAUL_ENGINES=through(stack, calls), **store.environment)
        eventually(lambda: stack.owner() == first.pid, "the first one looks after the engine", START_S, stack.tail)
        second = stack.run("worker.cli", "supervise")
        running = stack.ask_all([{"uri": f"file/r{n}?size={RATE * 5}&rate={RATE}", "user": "u"} for n in range(3)])
        stack.until_bytes("/file/r0", RATE // 2, START_S)
        with store.away():
            begun = time.monotonic()
            time.sleep(LEASE_GIVE_UP_S + 1)  # the time that is promised
            counted = calls.requests.total()
            if store.alone:
                taken_over(stack, second)
                assert time.monotonic() - begun < TAKEOVER_S
                stack.until_all(running)
            else:
                time.sleep(5)
            assert calls.requests.total() == counted, "it asks for nothing without a lease"
        stack.until_all(running, timeout_s=TAKEOVER_S)
        for id in running:
            stack.check_delivered(id, digest(RATE * 5))
        assert set(stack.origin.requests.values()) == {1}
        check_told(stack, running)


# ---- many at once ----


class Leases:
    """Who held the engine, read from the store again and again; a context manager.

    Attributes:
        held: the owners by token, in the order in which they were seen.
    """

    def __init__(self, stack: Stack) -> None:
        self.held: list[tuple[int, str]] = []
        self._stack = stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def check(self) -> None:
        """No token came back, and none had two owners."""
        tokens = [token for token, _ in self.held]
        assert tokens == sorted(set(tokens)), self.held

    def _look_on(self) -> None:
        with leases(self._stack) as look:
            while not self._over.wait(0.02):
                row = look().get(engine_lease("aria2"))
                if row and row[1] and row not in self.held[-1:]:
                    self.held.append(row)


@contextmanager
def leases(stack: Stack) -> Iterator[Callable[[], Mapping[str, tuple[int, str]]]]:
    """Reads the token and the owner of each lease, past the store."""
    if not stack.store_url:
        with closing(sqlite3.connect(stack.directory / "haul.db", timeout=10)) as database:
            yield lambda: {name: (token, owner) for name, token, owner in database.execute("SELECT name, token, owner FROM leases")}
        return
    with MongoClient(stack.store_url) as client:
        rows = client.get_default_database()["leases"]
        yield lambda: {row["_id"]: (row["token"], row["owner"]) for row in rows.find()}


@fault(
    "Several supervisors start at the same time, and owners go while 1,000 jobs run",
    provoked="two, of which one is killed, or four, of which three are told to stop one after the other",
    holds="the engine has one owner at a time, whose token is larger than all before; each file is fetched once and told of once",
)
@pytest.mark.parametrize(("supervisors", "number"), [(2, signal.SIGKILL), (4, signal.SIGTERM)])
def test_supervisors_that_race_do_each_of_a_thousand_jobs_once(stack: Stack, supervisors: int, number: signal.Signals) -> None:
    jobs = int(1000 * SHARE)
    specs = [{"uri": f"file/f{n}?size={SMALL}&seed={n % 5}", "user": f"u{n % 9}"} for n in range(jobs)]
    ids = stack.ask_all(specs)
    stack.run(*WORKER)
    running = {process.pid: process for process in (stack.run("worker.cli", "supervise") for _ in range(supervisors))}
    with Leases(stack) as seen:
        while len(running) > 1:
            owner = eventually(lambda: stack.owner() in running and stack.owner(), "one of them has the engine", TAKEOVER_S, stack.tail)
            enough = min(jobs, done(stack) + jobs // 10)
            eventually(lambda: done(stack) >= enough, "it works", START_S, stack.tail)  # noqa: B023
            running[owner].signal(number)
            del running[owner]
        stack.until_all(ids, timeout_s=TAKEOVER_S + 40)
    seen.check()
    assert len(seen.held) >= supervisors
    assert {path: count for path, count in stack.origin.requests.items() if count != 1} == {}
    assert set(stack.origin.bytes_served.values()) == {SMALL}
    check_told(stack, ids)


def done(stack: Stack) -> int:
    """How many jobs are done."""
    return stack.services.store.counts([State.DONE]).get(State.DONE, 0)


# ---- loops ----


@fault(
    "A loop of a supervisor runs into a fault of ours, or hangs",
    provoked="an exception in the sweep and in the look at an engine; then a look that hangs for a minute",
    holds="the loops go on and the job is done; while one hangs `/health` answers 503 and names it, and 200 when it goes on",
)
def test_a_fault_ends_no_loop_and_one_that_hangs_is_told_by_health(stack: Stack) -> None:
    port = free_port()
    failpoints = "sweep.begun:raise:1,start.submitted:raise:1,start.intent:hang:3"
    stack.run(*WORKER)
    stack.run("worker.cli", "supervise", HAUL_METRICS_PORT=str(port), HAUL_FAILPOINT=failpoints)
    eventually(lambda: stack.owner() is not None, "a supervisor is up", START_S, stack.tail)
    stack.check_delivered(stack.ask(f"file/first?size={SIZE}", "u"), digest(SIZE))
    assert stack.tail(1000).count("in a way it should not") == 2, stack.tail()
    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200

    id = stack.ask(f"file/second?size={SIZE}", "u")
    health = lambda: requests.get(f"http://127.0.0.1:{port}/health", timeout=5)  # noqa: E731
    unwell = eventually(lambda: (answer := health()).status_code == 503 and answer.json(), "it is told that a loop hangs", HANG_S)
    assert unwell["detail"] == "no tick for 30 s: engine-aria2"
    eventually(lambda: health().status_code == 200, "it goes on", HANG_S, stack.tail)
    stack.check_delivered(id, digest(SIZE))
    check_told(stack, [id])
