"""Workers and their messages.

A message is a nudge and never the record: it may be lost, come twice, or come late, and whoever works on it may be killed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.processes import Program
from tests.e2e.stack import Stack, digest, eventually
from tests.faults.catalogue import fault
from tests.faults.impatient import VISIBILITY_S, ran
from tests.faults.load import Load, check_told, children
from worker.celery import CONTROL, JOBS, HaulApp, create_app
from worker.jobs.states import State
from worker.ports import Step

pytestmark = pytest.mark.usefixtures("nothing_is_left")

SIZE = 200_000
RATE = 300_000
START_S = 60.0
#: What a worker that is killed had claimed is free again 20 s later.
RECOVERY_S = 80.0
WORKER = ("celery", "-A", "worker", "worker", "--without-gossip", "--without-mingle")
STEPS = [*(f"haul.{step}" for step in Step), "haul.sweep"]


@pytest.fixture
def supervised(stack: Stack) -> Stack:
    """The stack with a supervisor in a process of its own, and no worker."""
    stack.run("worker.cli", "supervise")
    return stack


class Workers:
    """Workers of one pool, one after the other."""

    def __init__(self, stack: Stack, pool: str, concurrency: int) -> None:
        self._stack = stack
        self._options = ("-P", pool, "-c", str(concurrency))
        self._started = 0

    def start(self) -> tuple[Program, Path]:
        """Another one, and the file that is there when it works."""
        self._started += 1
        alive = self._stack.directory / f"alive-{self._started}"
        return self._stack.run(*WORKER, *self._options, "-n", f"w{self._started}@%h", HAUL_ALIVE_PATH=str(alive)), alive


@fault(
    "Workers are killed with their processes, again and again",
    provoked="SIGKILL to 8 parents, of prefork and of threads, while 50 jobs a second are asked for",
    holds="no process of a pool outlives its parent; no job is lost, fetched twice or told of twice",
)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_eight_workers_are_killed_under_load_and_nothing_is_lost_or_done_twice(supervised: Stack, pool: str) -> None:
    workers = Workers(supervised, pool, 2)
    running = [workers.start(), workers.start()]
    with Load(supervised, 50, most=500) as load:
        for _ in range(8):
            worker, alive = running.pop(0)
            eventually(alive.exists, "it works", START_S, supervised.tail)
            running.append(workers.start())
            time.sleep(random.uniform(0.0, 0.5))  # at any moment of its work
            processes = children(worker.pid)
            assert len(processes) >= 2 or pool == "threads"
            worker.kill()
            eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "its processes end with it", 5)  # noqa: B023
        load.until(500)
    load.check(RECOVERY_S)


@fault(
    "Processes of a prefork pool are killed in the middle of their tasks",
    provoked="SIGKILL to 20 of them, one of those that run each time, while 30 jobs a second are asked for",
    holds="the worker replaces them and goes on; no job is lost, fetched twice or told of twice",
)
def test_processes_of_a_pool_are_killed_under_load_and_nothing_is_lost_or_done_twice(supervised: Stack) -> None:
    worker, alive = Workers(supervised, "prefork", 3).start()
    chance = random.Random(20)
    eventually(alive.exists, "it works", START_S, supervised.tail)
    with Load(supervised, 30, most=300) as load:
        load.until(15)
        for _ in range(20):
            victim = chance.choice(eventually(lambda: children(worker.pid), "it has processes", START_S, supervised.tail))
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: victim not in children(worker.pid), "it is gone", 10)  # noqa: B023
            time.sleep(chance.uniform(0.05, 0.4))
        load.until(300)
    assert worker.ended() is None, supervised.tail()
    load.check(RECOVERY_S)
    assert worker.stop() == 0


# ---- messages ----


@pytest.fixture
def messages(supervised: Stack) -> Iterator[HaulApp]:
    """To send messages as any process may."""
    app = create_app(supervised.settings)
    yield app
    app.close()


@fault(
    "A finish takes longer than its message is invisible, and messages wait for longer than that",
    provoked="a visibility time-out of 2 s, a finish that stands still for 5 s, and a message of every step with a countdown of 8 s",
    holds="the same messages are worked on several times, and change nothing the second time",
)
def test_messages_that_come_back_while_they_are_worked_on_change_nothing(supervised: Stack, messages: HaulApp) -> None:
    stack = supervised
    stack.run("celery", "-A", "tests.faults.impatient", *WORKER[3:], "-P", "threads", "-c", "4", HAUL_FAILPOINT="finish.intended:slow:1")
    id = stack.ask(f"file/x.bin?size={SIZE}", "u")
    eventually(lambda: stack.job(id).result, "its finish has begun", START_S, stack.tail)
    waiting = {str(messages.send_task(name, countdown=4 * VISIBILITY_S).id) for name in STEPS}
    job = stack.until(id, "done", timeout_s=START_S)
    stack.check_delivered(id, digest(SIZE), "x.bin")

    def came_back() -> dict[str, int]:
        return {message: count for (_, message), count in ran(stack.directory).items() if count > 1}

    assert any(name == "haul.finish" and count > 1 for (name, _), count in ran(stack.directory).items()), "its message came back"
    eventually(lambda: waiting & set(came_back()), "what waited came back", START_S, came_back)
    eventually(lambda: waiting <= {message for _, message in ran(stack.directory)}, "all that waited came", START_S)
    check_told(stack, [id])
    assert (stack.job(id).version, stack.job(id).result) == (job.version, job.result)
    assert stack.origin.requests["/file/x.bin"] == 1
    stack.check_delivered(id, digest(SIZE), "x.bin")


@fault(
    "Messages come many times, and long after their work was done",
    provoked="20 of each step at once while jobs run; then the same ones once more, byte for byte, when all jobs are done",
    holds="each job is done and told of once; the late ones change no record and fetch nothing",
)
def test_messages_that_come_twenty_times_or_late_change_nothing(supervised: Stack, messages: HaulApp) -> None:
    stack, queues = supervised, (CONTROL, JOBS)
    for name in STEPS * 20:
        messages.send_task(name)
    with Redis.from_url(stack.redis.url) as redis, Load(stack, 20, most=60) as load:
        kept = {queue: redis.lrange(queue, 0, -1) for queue in queues}
        assert sum(map(len, kept.values())) >= 20 * len(STEPS)
        load.until(20)
        stack.run(*WORKER, "-P", "threads", "-c", "4")
        load.until(60)
        load.check(START_S)

        quiet(stack, redis)
        before, served = {id: stack.job(id) for id in load.paths}, dict(stack.origin.bytes_served)
        for queue, rows in kept.items():
            redis.rpush(queue, *rows)
        quiet(stack, redis)
        assert {id: stack.job(id) for id in load.paths} == before
        assert stack.origin.bytes_served == served
        load.check(START_S)


def quiet(stack: Stack, redis: Redis) -> None:
    """Return when every message that was sent has been worked on."""
    eventually(
        lambda: not any(map(redis.llen, (CONTROL, JOBS))) and not redis.hlen("unacked"), "all messages are worked on", START_S, stack.tail
    )
    assert stack.services.store.counts([State.DONE])
