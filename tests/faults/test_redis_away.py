"""Redis: down, hung, full, read-only.

What a door called `queued` is in the store and ends; what it called `accepted` lies in Redis, whose append-only file keeps it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest
import requests
from redis import Redis

from tests.e2e.stack import Stack, eventually
from tests.faults.catalogue import fault
from tests.faults.redis_roles import (
    PREFORK,
    SOON_S,
    START_S,
    THREADS,
    address,
    blocked_in_brpop,
    celery,
    check_once,
    check_told,
    files,
    is_owned,
    latency,
    log_of,
    roles,
    start_redis,
    stop_redis,
    through,
)
from tests.tcp_proxy import TcpProxy
from worker.cli.servers import Server, free_port, start_valkey
from worker.client import Client, Transient

RATE = 100_000
#: A call of a bot ends in this time, whatever Redis does: its answer's time-out and some for a busy machine.
BOUND_S = 8.0
#: The API asks Redis for several things, one time-out is for all of them.
DOOR_S = 15.0
RECOVERED_S = 40.0


@pytest.fixture
def api(stack: Stack) -> str:
    """The address of the jobs of a `haul api` in a process of its own."""
    port = free_port()
    stack.run("worker.cli", "api", HAUL_API_PORT=str(port))
    url = f"http://127.0.0.1:{port}/v1/jobs"

    def up() -> bool:
        try:
            return requests.get(url, timeout=5).ok
        except requests.ConnectionError:
            return False

    eventually(up, "the API answers", START_S, stack.tail)
    return url


@contextmanager
def hung(stack: Stack) -> Iterator[None]:
    """Redis is there and says nothing."""
    stack.redis.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.redis.process.send_signal(signal.SIGCONT)


def post(api: str, stack: Stack, spec: dict[str, str]) -> str:
    """Ask the API for a job; checks that it was recorded as `queued`, in time. Its id."""
    begun = time.monotonic()
    answer = requests.post(api, json={**spec, "uri": stack.origin.url(spec["uri"])}, timeout=30)
    assert (answer.status_code, answer.json()["state"]) == (201, "queued"), answer.text
    assert time.monotonic() - begun < DOOR_S
    return str(answer.json()["id"])


def refused(client: Client, stack: Stack, spec: dict[str, str]) -> str:
    """What the client says when it cannot send a request; checks that it says so in time."""
    begun = time.monotonic()
    with pytest.raises(Transient) as error:
        client.enqueue(stack.origin.url(spec["uri"]), user=spec["user"], key=spec["key"])
    assert time.monotonic() - begun < BOUND_S
    return str(error.value)


@fault(
    "Redis hangs",
    provoked="SIGSTOP to Redis for 20 s with downloads under way and jobs asked for meanwhile",
    holds="downloads go on under the same owner; the API records, a call of a bot fails in bounded time; then all is done once",
)
def test_a_redis_that_hangs_stops_no_download_and_no_door(stack: Stack, api: str) -> None:
    roles(stack)
    slow, before, meanwhile = files(2, "slow", RATE, 30 * RATE), files(20, "before"), files(5, "meanwhile")
    ids = stack.ask_all([*slow, *before])
    stack.until_bytes("/file/slow-0", RATE)
    with hung(stack), Client(stack.redis.url) as client:
        begun, served = time.monotonic(), stack.origin.bytes_served["/file/slow-0"]
        ids += [post(api, stack, spec) for spec in meanwhile]
        assert "redis" in refused(client, stack, files(1, "refused")[0])
        time.sleep(max(0.0, begun + 20 - time.monotonic()))
        assert is_owned(stack), "the lease is in the store, and renewed"
        assert stack.origin.bytes_served["/file/slow-0"] - served > 10 * RATE, "downloads go on"
    print(f"Redis hung for 20 s: a new job is done after {latency(stack, RECOVERED_S):.1f} s")
    check_once(stack, dict(zip(ids, [*slow, *before, *meanwhile], strict=True)))
    check_told(stack, ids)


@fault(
    "Redis is restarted again and again",
    provoked="five restarts under load, by SIGKILL and SIGTERM in turn; its append-only file is on",
    holds="every job is done once and told of once, those that were only `accepted` too, for the file has them",
)
def test_five_restarts_of_redis_under_load_lose_nothing(stack: Stack) -> None:
    roles(stack)
    asked, accepted, rounds = {}, {}, zip(range(5), cycle([True, False]), strict=False)
    stack.services.coordinator.claim("intake", "the test", 60)  # what is accepted stays unread for a while
    for turn, hard in rounds:
        load, messages = files(10, f"r{turn}"), files(5, f"m{turn}")
        asked |= dict(zip(stack.ask_all(load), load, strict=True))
        with Client(stack.redis.url) as client:
            tickets = client.enqueue_many([{**spec, "uri": stack.origin.url(spec["uri"])} for spec in messages])
        accepted |= dict(zip([ticket.id for ticket in tickets], messages, strict=True))
        stop_redis(stack, hard=hard)
        late = files(3, f"late{turn}")
        asked |= dict(zip(stack.ask_all(late), late, strict=True))
        start_redis(stack)
        time.sleep(1)  # some of it works between two restarts
    stack.services.coordinator.unclaim("intake", "the test")
    begun = time.monotonic()
    check_once(stack, asked)
    print(f"five restarts: all {len(asked)} queued jobs done {time.monotonic() - begun:.1f} s after the last")
    check_once(stack, accepted)
    check_told(stack, [*asked, *accepted])
    took = latency(stack, RECOVERED_S)
    assert took < SOON_S, f"and as fast as ever: {took:.1f} s"


#: More processes than may hang before the test looks: each hangs at its own first notice.
MANY = tuple("8" if word == "3" else word for word in PREFORK)


@pytest.mark.parametrize("pool", [MANY, THREADS], ids=["prefork", "threads"])
@fault(
    "Redis goes away while tasks run",
    provoked="SIGKILL to Redis with tasks in the middle of something, and nobody there for 4 s, with both pools",
    holds="the worker lives, though it cannot give its messages back, and consumes again; the jobs are done once and told of once",
)
def test_a_worker_outlives_a_redis_that_goes_away_in_the_middle_of_a_task(stack: Stack, redis: Redis, pool: tuple[str, ...]) -> None:
    alive = stack.directory / "alive"
    _, worker = roles(stack, pool, HAUL_FAILPOINT="notify.send:hang:1", HAUL_ALIVE_PATH=str(alive))
    load = files(5)
    ids = stack.ask_all(load)
    eventually(lambda: redis.hlen("unacked") and blocked_in_brpop(redis), "a task hangs, and it waits for more", seen=stack.tail)
    stop_redis(stack, hard=True)
    time.sleep(4)  # it notices, gives back what it can, and tries to connect
    assert worker.ended() is None, stack.tail()
    start_redis(stack)
    back = time.time()
    eventually(lambda: alive.stat().st_mtime > back, "it is connected again", seen=stack.tail)
    worker.kill()  # what hangs in it is not of interest
    celery(stack, pool)
    check_once(stack, dict(zip(ids, load, strict=True)))
    check_told(stack, ids)


@fault(
    "Redis is down when a job is asked for",
    provoked="SIGTERM to Redis; jobs are asked for at the API and by a bot; Redis is started again",
    holds="the API answers 201 with `queued` and the job is done later; the bot gets a clear error in bounded time, and repeats the call "
    "with the same key for one job",
)
def test_jobs_asked_for_while_redis_is_down_are_recorded_and_done_later(stack: Stack, api: str) -> None:
    roles(stack)
    load, [bots] = files(4, "down"), files(1, "bot")
    with Client(stack.redis.url) as client:
        stop_redis(stack)
        ids = [post(api, stack, spec) for spec in load]
        assert "redis" in refused(client, stack, bots)
        start_redis(stack)
        begun = time.monotonic()
        again = [client.enqueue(stack.origin.url(bots["uri"]), user=bots["user"], key=bots["key"]).id for _ in range(2)]
    assert again[0] == again[1]
    check_once(stack, dict(zip([*ids, again[0]], [*load, bots], strict=True)))
    print(f"asked for while Redis was down: done {time.monotonic() - begun:.1f} s after it was back")


@fault(
    "Redis is full (noeviction)",
    provoked="CONFIG SET maxmemory below what is used, with downloads under way and jobs asked for; raised again after 12 s",
    holds="the API records, a bot is told that the memory is full, the worker lives; with memory again every job is done once",
)
def test_a_full_redis_stops_neither_the_api_nor_the_worker(stack: Stack, redis: Redis, api: str) -> None:
    supervisor, worker = roles(stack)
    slow, load, more = files(4, "slow", RATE, 5 * RATE), files(30), files(5, "full")
    ids = stack.ask_all([*slow, *load])
    with Client(stack.redis.url) as client:
        redis.config_set("maxmemory", 1)
        begun = time.monotonic()
        ids += [post(api, stack, spec) for spec in more]
        assert "its memory is full" in refused(client, stack, files(1, "bot")[0])
        time.sleep(max(0.0, begun + 12 - time.monotonic()))  # downloads end, sweeps come and go
        assert supervisor.ended() is worker.ended() is None, stack.tail()
        redis.config_set("maxmemory", 0)
    begun = time.monotonic()
    check_once(stack, dict(zip(ids, [*slow, *load, *more], strict=True)))
    print(f"Redis had no memory: all done {time.monotonic() - begun:.1f} s after it had some")
    check_told(stack, ids)
    assert "in a way it should not" not in log_of(stack), stack.tail()
    assert supervisor.ended() is worker.ended() is None, stack.tail()


@pytest.fixture
def other(stack: Stack, tmp_path: Path) -> Iterator[Server]:
    """A second Redis with the same password, a replica of the stack's."""
    directory = tmp_path / "other"
    directory.mkdir()
    secret = stack.redis.url.partition("://:")[2].partition("@")[0]
    program = Path(stack.redis._command[0])
    server = start_valkey(program, directory, secret=secret)
    for url in (server.url, stack.redis.url):
        with Redis.from_url(url) as each:
            each.config_set("masterauth", secret)
    follow(server.url, stack.redis.url)
    yield server
    server.stop()


def follow(replica: str, master: str) -> None:
    """Make one a replica of the other; returns when it has all."""
    host, _, port = address(master).partition(":")
    with Redis.from_url(replica, decode_responses=True) as redis:
        redis.replicaof(host, port)
        eventually(lambda: redis.info("replication").get("master_link_status") == "up", "the replica is in step")


def lead(server: str) -> None:
    """Make one a master."""
    with Redis.from_url(server) as redis:
        redis.replicaof("NO", "ONE")


@fault(
    "Redis fails over: the server that is known answers READONLY",
    provoked="two servers; the replica becomes the master and the master its replica, both stay up; 8 s later the address leads to the "
    "new master, where connections stay open to the old one; then all of it back",
    holds="the worker lives through READONLY; jobs asked for meanwhile are recorded, and all are done once on either master",
)
def test_a_failover_is_survived_and_back(stack: Stack, other: Server) -> None:
    with TcpProxy(address(stack.redis.url)) as proxy:
        supervisor, worker = roles(stack, HAUL_REDIS_URL=through(stack, proxy))
        asked = {}
        for turn, (old, new) in enumerate([(stack.redis.url, other.url), (other.url, stack.redis.url)]):
            before, meanwhile = files(10, f"before{turn}"), files(5, f"meanwhile{turn}")
            asked |= dict(zip(stack.ask_all(before), before, strict=True))
            lead(new)
            follow(old, new)
            asked |= dict(zip(stack.ask_all(meanwhile), meanwhile, strict=True))
            time.sleep(8)
            assert supervisor.ended() is worker.ended() is None, stack.tail()
            proxy.lead_to(address(new))
            begun = time.monotonic()
            check_once(stack, asked)
            print(f"failover {turn}: all done {time.monotonic() - begun:.1f} s after the address led to the new master")
        took = latency(stack, RECOVERED_S)
        assert took < SOON_S, f"and as fast as ever: {took:.1f} s"
    assert "takes no writes" in log_of(stack)
