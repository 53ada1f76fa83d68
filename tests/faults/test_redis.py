"""Redis: connections that die.

Worker and supervisor are processes of their own here, and reach Redis through a proxy: a job moves by messages alone.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
import requests
from redis import Redis

from tests.e2e.processes import CeleryWorker
from tests.e2e.stack import Stack, eventually
from tests.faults.catalogue import fault
from tests.faults.redis_roles import (
    SOON_S,
    THREADS,
    blocked_in_brpop,
    celery,
    check_once,
    check_told,
    files,
    is_owned,
    latency,
    log_of,
    roles,
    stand_still,
    through,
)
from tests.tcp_proxy import TcpProxy
from worker.cli.servers import free_port

#: A worker consumes again this long after its connections died without a word.
RECOVERED_S = 40.0
SWEPT_S = 90.0
RATE = 100_000


@pytest.fixture
def proxy(stack: Stack) -> Iterator[TcpProxy]:
    """What stands between the stack's processes and its Redis."""
    with TcpProxy(stack.redis.url.rpartition("@")[2].partition("/")[0]) as running:
        yield running


@fault(
    "A message is lost with the worker it was given to",
    provoked="SIGSTOP to a worker that waits in BRPOP, a job is asked for, SIGKILL once Redis has handed the message over",
    holds="the sweep makes up for it: the job is done within 90 s",
)
def test_a_message_that_died_with_its_worker_is_made_up_for_by_the_sweep(stack: Stack, redis: Redis) -> None:
    _, worker = roles(stack, THREADS)
    for attempt in range(20):
        eventually(lambda: blocked_in_brpop(redis), "the worker waits for a message", seen=stack.tail)
        eventually(lambda: stand_still(stack, worker), "it stands still and holds no lock")
        [spec] = files(1, f"lost-{attempt}")
        [id] = stack.ask_all([spec])
        eventually(lambda: redis.get("haul:nudge:probe"), "the message is sent", seen=stack.tail)
        time.sleep(0.1)  # LPUSH follows the flag
        waiting = [json.loads(message)["headers"]["task"] for message in redis.lrange("haul.control", 0, -1)]
        if "haul.probe" not in waiting and not redis.hlen("unacked"):
            break
        worker.signal(signal.SIGCONT)  # it had just gone to fetch the next one
        stack.until(id, "done")
    else:
        raise AssertionError("no message was lost")
    worker.kill()
    begun = time.monotonic()
    assert stack.job(id).state == "queued"

    celery(stack, THREADS)
    check_once(stack, {id: spec}, SWEPT_S)
    print(f"a lost message: done {time.monotonic() - begun:.1f} s after its worker died")


@pytest.mark.parametrize("pool", ["threads with a supervisor", "prefork"])
@fault(
    "Every connection to Redis dies without a word (half-open)",
    provoked="a proxy swallows what its connections send and closes none; new ones pass at once, and in a second round after 10 s",
    holds="a new job is done within 40 s, with both pools; downloads go on, engines keep their owner, nothing is fetched twice",
)
def test_a_worker_whose_connections_died_silently_consumes_again_within_40_seconds(stack: Stack, proxy: TcpProxy, pool: str) -> None:
    url = through(stack, proxy)
    if pool == "prefork":
        roles(stack, HAUL_REDIS_URL=url)
    else:
        stack.work(CeleryWorker, HAUL_REDIS_URL=url)
    warm, slow = files(10, "warm"), files(2, "slow", RATE, 60 * RATE)
    ids = stack.ask_all([*slow, *warm])
    stack.until_all(ids[2:])
    stack.until_bytes("/file/slow-0", RATE)

    for silent_s in (0, 10):
        proxy.black_hole()
        assert not proxy.connections
        before = stack.origin.bytes_served["/file/slow-0"]
        time.sleep(silent_s)
        proxy.heal()
        took = latency(stack, RECOVERED_S)
        print(f"{pool}, silent for {silent_s} s and healed: done after {took:.1f} s")
        assert stack.origin.bytes_served["/file/slow-0"] - before > RATE * took / 2, "the download goes on meanwhile"
        assert is_owned(stack), "its owner has kept it"
    again = latency(stack, RECOVERED_S)
    assert again < SOON_S, f"and as fast as ever: {again:.1f} s"
    stack.cancel_all(ids[:2])
    check_once(stack, dict(zip(ids[2:], warm, strict=True)))
    assert set(stack.origin.requests.values()) == {1}


@fault(
    "Connections to Redis are cut again and again while tasks run",
    provoked="CLIENT KILL of all normal and pub/sub clients, and a proxy that resets every connection, in turn, 9 times under load; "
    "one task is in the middle of something all the time, in a pool that cannot end it",
    holds="messages that come again run beside the first copy and do nothing twice: every job is fetched, done and told of once",
)
def test_tasks_whose_connections_are_cut_again_and_again_do_nothing_twice(stack: Stack, redis: Redis, proxy: TcpProxy) -> None:
    roles(stack, THREADS, HAUL_REDIS_URL=through(stack, proxy), HAUL_FAILPOINT="notify.send:hang:1")
    jobs = {}
    for turn in range(9):
        load, begun = files(5, f"load{turn}"), time.time()
        jobs |= dict(zip(stack.ask_all(load), load, strict=True))
        eventually(lambda: redis.zcount("unacked_index", begun, "inf"), "a task runs", seen=stack.tail)  # noqa: B023
        if turn % 3 == 0:
            proxy.cut()
        else:
            redis.client_kill_filter(_type=("normal", "pubsub")[turn % 3 - 1], skipme=True)
    check_once(stack, jobs)
    check_told(stack, jobs)
    assert "cannot be acknowledged after a connection loss" in log_of(stack), "a task was in the middle of something"
    assert is_owned(stack)


@fault(
    "Those who watch (Flower, an exporter) lose their connections or die",
    provoked="CLIENT KILL of all pub/sub clients while Flower runs, then SIGKILL to Flower",
    holds="jobs do not notice; the metrics, which come from the store, count every job",
)
def test_events_that_nobody_hears_change_neither_jobs_nor_metrics(stack: Stack, redis: Redis) -> None:
    probes, page = free_port(), free_port()
    flower = stack.run("celery", "-A", "worker", "flower", "--address=127.0.0.1", f"--port={page}")
    roles(stack, HAUL_METRICS_PORT=str(probes))
    eventually(lambda: redis.pubsub_numpat() >= 2, "Flower listens, and so does the worker", seen=stack.tail)
    load = files(40)
    ids = stack.ask_all(load[:20])
    for _ in range(5):
        redis.client_kill_filter(_type="pubsub")
        time.sleep(0.1)
    os.kill(flower.pid, signal.SIGKILL)
    ids += stack.ask_all(load[20:])
    check_once(stack, dict(zip(ids, load, strict=True)))
    check_told(stack, ids)
    metrics = requests.get(f"http://127.0.0.1:{probes}/metrics", timeout=10).text
    assert 'haul_jobs{state="done"} 40.0' in metrics, metrics
