"""A wall clock is set forward and back.

Every clock that matters to Haul is set under load: those of its processes, of Redis, of MongoDB and of the engines. Programs
are started under a library that moves their wall clock and no other. The aria2c of the wheel is linked statically and does not
notice it; the machine's does.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.engines import aria2c_program, qbittorrent_program
from tests.e2e.processes import CeleryWorker, Worker
from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually, redis_of_stacks
from tests.faults.catalogue import fault
from tests.faults.outage import START_S, Watch
from tests.mongodb import MongoServer, mongo_server
from tests.origin import content
from tests.torrents import pack, web_seeded
from tests.wall_clock import WallClock
from worker.cli.servers import Server, start_aria2c
from worker.cli.servers.qbittorrent import start_qbittorrent
from worker.client import Client
from worker.jobs.errors import LeaseLost
from worker.limits import INTAKE_CLAIM_S, LEASE_S, SWEEP_S
from worker.ports import Change, Step

HOUR_S = 3600
JUMPS = (HOUR_S, 0, -HOUR_S, 0)
SIZE = 200_000
RATE = 200_000
#: As a finish that was begun claims it; the longest there is.
CLAIM_S = 20.0
#: Until what dead processes left is dealt with: one claim after the other ends, each is found over by a sweep, and some time to work.
WAITED_S = INTAKE_CLAIM_S + CLAIM_S + 2 * SWEEP_S + 10
#: What takes a second on a machine with nothing else to do; less than any clock is moved by.
SOON_S = 60.0
TOLD = ["job.queued", "job.started", "job.completed"]


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    """The clock that the test sets."""
    return WallClock(tmp_path / "clock")


def ask_some(stack: Stack, turn: int) -> list[str]:
    """Some jobs of two users: short and longer ones, and one whose server fails first, so that it is tried again."""
    paths = [f"file/{turn}-{n}?size={SIZE}&rate={RATE // (n + 1)}&seed={n}" for n in range(4)] + [f"flaky/{turn}?size={SIZE}&fails=1"]
    return stack.ask_all([{"uri": path, "user": f"u{n % 2}", "key": f"{turn}-{n}"} for n, path in enumerate(paths)])


def check_once(stack: Stack, ids: list[str], timeout_s: float) -> None:
    """All are done, were downloaded once, and were told of in order."""
    stack.until_all(ids, timeout_s=timeout_s)
    for id in ids:
        n = ids.index(id) % 5
        stack.check_delivered(id, digest(SIZE, n if n < 4 else 0))
        assert [each for each in stack.told(id) if each != "job.retrying"] == TOLD
    over = {path: size - SIZE for path, size in stack.origin.bytes_served.items() if size > SIZE + SLACK_BYTES}
    assert not over, "each was downloaded once"


@fault(
    "The machine's wall clock is set an hour forward, back, an hour back and right again",
    provoked="workers, Redis, aria2 and qBittorrent run under a library that moves their wall clock, while jobs are added, run, fail and"
    " are tried again; a second worker stands by",
    holds="the owner stays the owner, each job is done and told once, and no retry waits an hour; qBittorrent, which starts nothing new"
    " once its clock went back, does when it is started again, and its jobs wait for that",
)
def test_a_machine_whose_clock_jumps_does_every_job_once(tmp_path: Path, clock: WallClock) -> None:
    with (
        engines(clock, tmp_path) as servers,
        Stack(tmp_path / "stack", engines=tuple(servers), servers=servers, redis=clock.under(redis_of_stacks())) as stack,
    ):
        owner = stack.work(CeleryWorker, ready=False, **clock.environment)
        eventually(lambda: stack.owner() == owner.pid, "the worker looks after the engines", START_S, stack.tail)
        stack.work(CeleryWorker, ready=False, **clock.environment)
        through_jumps(stack, clock, owner)


@contextmanager
def engines(clock: WallClock, directory: Path) -> Iterator[dict[str, Server]]:
    """An aria2 and a qBittorrent that go by the clock."""
    servers: dict[str, Server] = {}
    try:
        for name, start, program in (
            ("aria2", start_aria2c, aria2c_program()),
            ("qbittorrent", start_without_discovery, qbittorrent_program()),
        ):
            (directory / name).mkdir()
            servers[name] = start(clock.under(program), directory / name, directory / name, slots=8)
        yield servers
    finally:
        for server in servers.values():
            server.stop()


start_without_discovery = partial(start_qbittorrent, discovery=False)


def through_jumps(stack: Stack, clock: WallClock, owner: Worker) -> None:
    """Jobs are asked for before, between and after all jumps; nothing of the process that owns the engines changes."""
    with Watch(stack.settings.store_address) as watch, Client(stack.redis.url) as client:
        ids, torrents = ask_some(stack, 0), {}
        for turn, shift in enumerate(JUMPS, 1):
            eventually(lambda: sum(stack.origin.bytes_served.values()) > turn * SIZE, "downloads run", seen=stack.tail)  # noqa: B023
            clock.set(shift)
            begun = time.monotonic()
            url = stack.origin.url(f"file/{turn}-bot?size={SIZE}")
            bots = client.enqueue(url, user="bot", key=str(turn)).id
            ids += ask_some(stack, turn)
            torrents[f"t{turn}"] = stack.ask(None, "u0", engine="qbittorrent", torrent=torrent(stack, f"t{turn}"))
            stack.until_all([bots], timeout_s=SOON_S)
            print(f"{shift:+} s: what was asked for then is done after {time.monotonic() - begun:.1f} s")
            eventually(lambda: stack.owner() is not None, "the engines are looked after", seen=stack.tail)
            assert stack.owner() == owner.pid, stack.tail()
            assert stack.origin.requests[f"/file/{turn}-bot"] == 1
        check_once(stack, ids, SOON_S)
        start_again(stack.qbittorrent.server)
        for name, id in torrents.items():
            stack.until_all([id], timeout_s=SOON_S)
            stack.check_delivered(id, digest(SIZE, len(name)), name)
            assert stack.told(id) == TOLD
            assert stack.job(id).attempt == 1
        watch.check(*ids, *torrents.values())


def start_again(server: Server) -> None:
    """libtorrent goes by the wall clock: set back, qBittorrent begins nothing new until that time has come again, or it is restarted."""
    server.process.kill()
    server.process.wait()
    server.restart()
    server.await_ready()


def torrent(stack: Stack, name: str) -> str:
    """A torrent of one file, which the origin serves, as a request carries it."""
    made = web_seeded(stack.origin, pack({name: content(SIZE, len(name))}, name=name, single=True), rate=RATE)
    return base64.b64encode(made.document).decode()


@fault(
    "Redis' clock is set back an hour, and what shall be over in seconds seems to last an hour more",
    provoked="a Redis under a library that moves its wall clock; processes that are gone have left claims, pending nudges, and messages of"
    " the intake that they read and did not acknowledge",
    holds="claims and nudges end in the time they were given, and what bots asked for is recorded in its order, as after any crash",
)
def test_a_redis_whose_clock_goes_back_keeps_nobody_waiting(tmp_path: Path, clock: WallClock) -> None:
    with Stack(tmp_path / "stack", redis=clock.under(redis_of_stacks())) as stack, Client(stack.redis.url) as client:
        redis = stack.services.coordinator
        first = client.enqueue(stack.origin.url(f"file/first?size={40 * SIZE}&rate={SIZE}"), user="bot", key="first")
        assert len(redis.take_intake("dead", 100)) == 1
        for name in ("intake", "finish:quick", "describe"):
            assert redis.claim(name, "dead", CLAIM_S)
        assert all(redis.may_nudge(step) for step in Step)
        clock.set(-HOUR_S)

        stack.work()
        begun = time.monotonic()
        client.control(first.id, "cancel")
        second = client.enqueue(stack.origin.url(f"file/second?size={SIZE}&seed=1"), user="bot", key="second")
        stack.until_all([second.id], timeout_s=WAITED_S)
        print(
            f"a message that comes behind what the dead left is dealt with, and its file in place, after {time.monotonic() - begun:.1f} s"
        )
        stack.check_delivered(second.id, digest(SIZE, 1))
        stack.until_all([first.id], "cancelled", SOON_S)

        clock.set(HOUR_S)
        clock.set(0)
        third = client.enqueue(stack.origin.url(f"file/third?size={SIZE}&seed=2"), user="bot", key="third")
        stack.until_all([third.id], timeout_s=WAITED_S)
        assert [stack.told(id) for id in (second.id, third.id)] == [TOLD, TOLD]
        assert stack.origin.bytes_served["/file/second"] == stack.origin.bytes_served["/file/third"] == SIZE


@fault(
    "The wall clock of beat is set an hour forward and back",
    provoked="`celery beat` with a task for every second, under a library that moves its wall clock",
    holds="it goes on sending once a second, neither a storm forward nor a silence of an hour back",
)
def test_beat_neither_storms_nor_falls_silent(tmp_path: Path, clock: WallClock) -> None:
    with Stack(tmp_path / "stack") as stack, Redis.from_url(stack.redis.url) as redis:
        stack.run("celery", "-A", "tests.faults.quick_beat", "beat", **clock.environment)
        sent = lambda: int(redis.llen("haul.control"))  # noqa: E731
        eventually(lambda: sent() >= 2, "beat sends", seen=stack.tail)
        for shift in JUMPS:
            clock.set(shift)
            begun, before = time.monotonic(), sent()
            eventually(lambda: sent() >= before + 3, "beat goes on", 45, stack.tail)  # noqa: B023
            assert sent() - before <= time.monotonic() - begun + 2, "no more than one a second, and one for the jump"


# ---- MongoDB ----


@pytest.fixture
def mongo(tmp_path: Path, clock: WallClock) -> Iterator[MongoServer]:
    """A MongoDB that goes by the clock."""
    with mongo_server(tmp_path / "mongodb", **clock.environment) as server:
        yield server


@fault(
    "MongoDB's clock, by which leases end, is set an hour forward and back again",
    provoked="a server under a library that moves its wall clock; two supervisors; the owner is killed after the clock went back",
    holds="a lease that is handed over early leaves its old holder with a token that writes nothing; each job is done once; after the step"
    " back the next owner takes over within a minute, not an hour later",
)
def test_a_mongodb_whose_clock_jumps_has_one_owner_that_writes(tmp_path: Path, clock: WallClock, mongo: MongoServer) -> None:
    with Stack(tmp_path / "stack", store_url=f"mongodb://{mongo.address}/haul") as stack, Watch(stack.store_url) as watch:
        job = stack.act(stack.ask("file/never?size=1", "never"), "pause")
        early = stack.services.store.acquire_lease("engine:test", "early", LEASE_S)
        assert early is not None
        workers = [stack.work(), stack.work(ready=False)]
        ids = ask_some(stack, 0)
        clock.set(HOUR_S)
        late = stack.services.store.acquire_lease("engine:test", "late", LEASE_S)
        assert late is not None
        assert late.token > early.token
        with pytest.raises(LeaseLost):
            stack.services.store.apply([Change(job, job.noted(0, "by a holder that was overtaken"))], early)
        assert stack.job(job.id).version == job.version
        ids += ask_some(stack, 1)
        check_once(stack, ids, SOON_S)

        clock.set(0)
        ids += ask_some(stack, 2)
        check_once(stack, ids, SOON_S)
        long = stack.ask(f"file/long?size={RATE * 50}&rate={RATE}", "long")
        stack.until(long, "downloading")
        owner = eventually(
            lambda: next((each for each in workers if each.pid == stack.owner()), None), "there is an owner", seen=stack.tail
        )
        owner.kill()
        begun, other = time.monotonic(), workers[1 - workers.index(owner)]
        eventually(lambda: stack.owner() == other.pid, "the other takes over", LEASE_S + 30, stack.tail)
        print(f"taken over after {time.monotonic() - begun:.0f} s")
        stack.until(long, "done", timeout_s=SOON_S)
        stack.check_delivered(long, digest(RATE * 50))
        assert stack.origin.bytes_served["/file/long"] == RATE * 50
        watch.check(*ids, long)
