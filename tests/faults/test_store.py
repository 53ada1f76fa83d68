"""The store is away, slow or damaged."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually
from tests.faults.catalogue import fault
from tests.faults.outage import Api, Watch, check_doors_closed, haul, rss_mb
from tests.mongo_proxy import mongo_proxy
from tests.mongodb import MongoServer, mongo_server
from tests.tcp_proxy import TcpProxy
from worker.client import Client
from worker.limits import LEASE_S
from worker.ports import JobFilter

SIZE = 200_000
RATE = 300_000
RSS_GROWTH_MB = 40
#: As long as no lease lasts, and a little more.
OUTAGE_S = LEASE_S + 3
TOLD = ["job.queued", "job.started", "job.completed"]


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[MongoServer]:
    """A MongoDB that the test may break."""
    with mongo_server(tmp_path / "mongodb") as server:
        yield server


@pytest.fixture
def proxied(tmp_path: Path, mongo: MongoServer) -> Iterator[tuple[Stack, TcpProxy, dict[str, str]]]:
    """A stack on MongoDB, a proxy before it, and the environment of processes that go through the proxy; the test itself does not."""
    with TcpProxy(mongo.address) as proxy, Stack(tmp_path / "stack", store_url=f"mongodb://{mongo.address}/haul") as stack:
        yield stack, proxy, {"HAUL_STORE_URL": f"mongodb://{proxy.address}/haul"}


def through_outage(
    stack: Stack,
    begin: Callable[[], object],
    end: Callable[[], object],
    seconds: float = OUTAGE_S,
    *,
    readable: bool = False,
    code: int | None = 3,
    **environment: str,
) -> None:
    """The store is away for so long while jobs wait, run, stand still and are asked for; then all of them end, once.

    Args:
        readable: it can be read all the time.
        code: with which commands end meanwhile; None asks at no door but the bots'.
    """
    worker, api = stack.work(**environment), Api(stack, **environment)
    size, short = int(RATE * (seconds + 10)), RATE * 5
    with Watch(stack.settings.store_address) as watch, Client(stack.redis.url) as client:
        ended = stack.ask(f"file/ended?size={SIZE}&seed=1", "u")
        sizes = {"r": (size, RATE), "p": (short, RATE), "c": (size, RATE // 4)}
        specs = [{"uri": f"file/{name}?size={n}&rate={rate}", "user": name} for name, (n, rate) in sizes.items()]
        running, paused, cancelled = stack.ask_all(specs)
        stack.until(ended, "done")
        for path in "rpc":
            stack.until_bytes(f"/file/{path}", 50_000)
        stack.act(paused, "pause")
        stack.until(paused, "paused")
        before_mb = rss_mb(worker.pid)

        begin()
        begun, served = time.monotonic(), stack.origin.bytes_served["/file/r"]
        accepted = client.enqueue(stack.origin.url(f"file/accepted?size={SIZE}&seed=2"), user="bot", key="1")
        assert accepted.status == "accepted"
        client.control(cancelled, "cancel")
        if code is not None:
            check_doors_closed(stack, api, running, readable=readable, code=code, **environment)
        eventually(lambda: time.monotonic() - begun >= seconds, "the outage lasts", seconds + 1)
        print(f"away for {time.monotonic() - begun:.0f} s; RSS {before_mb:.0f} MB, then {rss_mb(worker.pid):.0f} MB")
        assert stack.origin.bytes_served["/file/r"] - served > RATE * seconds / 2, "the engine goes on"
        assert rss_mb(worker.pid) - before_mb < RSS_GROWTH_MB
        end()

        healed = time.monotonic()
        after = api.add(uri=stack.origin.url(f"file/after?size={SIZE}&seed=3"), user="u", key="after")
        stack.act(paused, "resume")
        stack.check_delivered(after, digest(SIZE, 3))
        print(f"a new job is done {time.monotonic() - healed:.1f} s after the end")
        stack.until(cancelled, "cancelled", timeout_s=60)
        stack.until_all([accepted.id, running, paused], timeout_s=60)
        stack.check_delivered(accepted.id, digest(SIZE, 2))
        stack.check_delivered(running, digest(size))
        for id in (ended, accepted.id, after, running):
            assert stack.told(id) == TOLD
        assert stack.told(cancelled) == ["job.queued", "job.started", "job.cancelled"]
        assert stack.origin.bytes_served["/file/r"] == size
        assert stack.origin.bytes_served["/file/p"] <= short + SLACK_BYTES
        assert stack.origin.requests["/file/refused"] == 0
        assert worker.ended() is None
        watch.check(ended, accepted.id, after, running, paused, cancelled)


@fault(
    "MongoDB dies and comes back after longer than a lease lasts",
    provoked="`kill -9` of the server while jobs wait, run, are paused, cancelled and asked for; 60 s later it is started on its data",
    holds="no record goes back; downloads go on meanwhile; sixty callers of the API are told 503 in bounded time, commands end with"
    " code 3; what a bot asked for meanwhile is done; memory is bounded; each job is downloaded and told once",
)
def test_mongodb_killed_for_longer_than_a_lease_loses_nothing(tmp_path: Path, mongo: MongoServer) -> None:
    with Stack(tmp_path / "stack", store_url=f"mongodb://{mongo.address}/haul") as stack:
        through_outage(stack, mongo.kill, mongo.start, 60)


@fault(
    "MongoDB hangs",
    provoked="SIGSTOP of the server for 15 s, under the same load",
    holds="as above; calls end by their time-outs, and leases are kept",
)
def test_mongodb_that_stands_still_holds_up_nobody(tmp_path: Path, mongo: MongoServer) -> None:
    with Stack(tmp_path / "stack", store_url=f"mongodb://{mongo.address}/haul") as stack:
        through_outage(stack, lambda: mongo.signal(signal.SIGSTOP), lambda: mongo.signal(signal.SIGCONT), 15, code=None)


@fault(
    "The way to MongoDB swallows everything",
    provoked="a proxy that takes bytes and passes none on, in connections that stay open, for 33 s",
    holds="as above",
)
def test_a_black_hole_before_mongodb_is_found_out(proxied: tuple[Stack, TcpProxy, dict[str, str]]) -> None:
    stack, proxy, environment = proxied
    through_outage(stack, proxy.black_hole, proxy.heal, **environment)


def under_load(stack: Stack, disturb: Callable[[int], object], timeout_s: float = 90, **environment: str) -> None:
    """Jobs are added, run, stand still, go on, fail, are cancelled and end while the store is disturbed; each once, as if it were not.

    Args:
        disturb: called before each step with its number.
    """
    stack.work(**environment)
    api, urls = Api(stack, **environment), [stack.origin.url(f"file/{n}?size={RATE}&rate={RATE}&seed={n}") for n in range(6)]
    steps = iter(range(100))
    with Watch(stack.settings.store_address) as watch, Client(stack.redis.url) as client:
        ids = []
        for n, url in enumerate(urls):
            disturb(next(steps))
            wish = {"user": f"u{n % 2}", "key": str(n)}
            ids.append(api.add(uri=url, **wish) if n % 2 else client.enqueue(url, **wish).id)
        rates = {"held": RATE, "away": RATE // 8}
        slow = [
            api.add(uri=stack.origin.url(f"file/{name}?size={8 * RATE}&rate={rate}"), user="u", key=name) for name, rate in rates.items()
        ]
        wrong = api.add(uri=stack.origin.url("status/404"), user="u", key="wrong")
        for id in slow:
            stack.until(id, "downloading", timeout_s=timeout_s)
        for action in ("pause", "resume"):
            disturb(next(steps))
            client.control(slow[0], action)
        client.control(slow[1], "cancel")
        stack.until(slow[1], "cancelled", timeout_s=timeout_s)
        disturb(next(steps))
        ids.append(slow[0])
        stack.until_all(ids, timeout_s=timeout_s)
        stack.until(wrong, "failed", timeout_s=timeout_s)
        for n, id in enumerate(ids[:-1]):
            stack.check_delivered(id, digest(RATE, n))
            assert stack.told(id, timeout_s) == TOLD
            assert stack.origin.bytes_served[f"/file/{n}"] == RATE, "it was downloaded once"
        stack.check_delivered(slow[0], digest(8 * RATE))
        assert stack.told(slow[1], timeout_s) == ["job.queued", "job.started", "job.cancelled"]
        assert stack.told(wrong, timeout_s) == ["job.queued", "job.started", "job.failed"]
        watch.check(*ids, *slow, wrong)
        assert len(stack.services.store.page(JobFilter(), 100).jobs) == len({*ids, *slow, wrong}), "one key, one job"


@fault(
    "Connections to MongoDB break again and again",
    provoked="a proxy resets all of them before each request of a door and twice a second, while jobs are added, run and end",
    holds="no record goes back; each job is downloaded, told and recorded once",
)
def test_connections_to_mongodb_that_break_all_the_time_lose_nothing(proxied: tuple[Stack, TcpProxy, dict[str, str]]) -> None:
    stack, proxy, environment = proxied
    up, over = threading.Event(), threading.Event()

    def cut() -> None:
        up.wait()  # a process that cannot open its store when it starts ends, and says so
        while not over.wait(0.5):
            proxy.cut()

    def disturb(_: int) -> None:
        up.set()
        proxy.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        under_load(stack, disturb, **environment)
    finally:
        over.set()
        up.set()
        cutter.join()


@fault(
    "MongoDB is slow",
    provoked="a proxy keeps every message back for 0.3 s, there and back, so that the least write takes two seconds",
    holds="as above; leases are kept or lost, and nothing is done twice",
)
def test_a_slow_mongodb_makes_everything_slow_and_nothing_wrong(proxied: tuple[Stack, TcpProxy, dict[str, str]]) -> None:
    stack, proxy, environment = proxied
    under_load(stack, lambda _: proxy.delay(0.3), **environment)


@fault(
    "MongoDB does what it was asked, and the answer is lost",
    provoked="a proxy loses the answers to inserts, updates and changes of leases, in turn, while jobs are added, run and end",
    holds="what was written is found again and written once; no key has two jobs, nothing is downloaded or told twice",
)
def test_writes_whose_answers_are_lost_are_made_once(tmp_path: Path, mongo: MongoServer) -> None:
    url = f"mongodb://{mongo.address}/haul"
    with mongo_proxy(mongo.address) as proxy, Stack(tmp_path / "stack", store_url=url) as stack:
        lost: Counter[str] = Counter()

        def lose(step: int) -> None:
            for command in ("insert", "update", "findAndModify"):  # twice: the call is made again at once, and is a failure then
                proxy.lose_reply(command, times=2 if step < 6 else 1, then=lambda command=command: lost.update([command]))

        under_load(stack, lose, HAUL_STORE_URL=f"mongodb://{proxy.address}/haul?serverMonitoringMode=poll")
        print(dict(lost))
        assert min(lost[command] for command in ("insert", "update", "findAndModify")) >= 4, lost


# ---- SQLite ----

#: Begins a write and leaves it open.
WRITER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
database.execute("INSERT INTO torrents VALUES ('begun', 'and never committed')")
print("inside", flush=True)
time.sleep(600)
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stack]:
    """A stack on SQLite."""
    with Stack(tmp_path / "stack", store_url="") as stack:
        yield stack


def whole(stack: Stack) -> bool:
    """SQLite finds nothing wrong with the database."""
    with closing(sqlite3.connect(stack.directory / "haul.db", timeout=30)) as database:
        return bool(database.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


@fault(
    "A process stands still inside a write to SQLite, and nobody else can write",
    provoked="SIGSTOP of a process inside a transaction, for 33 s, under the load above; then it is killed",
    holds="what reads goes on, commands and API included, and so do downloads; doors that write say 503, or end with code 3, in bounded"
    " time; killing the process heals all, and its half of a write was never made",
)
def test_a_process_that_stops_inside_a_write_holds_up_writers_only(small: Stack) -> None:
    started: list[subprocess.Popen[str]] = []

    def stop_inside() -> None:
        command = [sys.executable, "-c", WRITER, str(small.directory / "haul.db")]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        out = started[0].stdout
        assert out is not None
        assert out.readline() == "inside\n"
        started[0].send_signal(signal.SIGSTOP)

    def kill() -> None:
        while started:
            started[0].kill()
            started.pop().communicate()

    try:
        through_outage(small, stop_inside, kill, readable=True)
    finally:
        kill()
    assert whole(small)
    assert small.services.store.torrents(["begun"]) == {}


@fault(
    "The file of an SQLite store is taken away while it is used",
    provoked="it is renamed for 10 s, under the same load, and put back",
    holds="nothing is written where nobody finds it again, and no new file is made beside the old log: all doors say so; everything goes"
    " on once the file is back",
)
def test_a_database_that_is_taken_away_gets_no_writes_until_it_is_back(small: Stack) -> None:
    path, aside = small.directory / "haul.db", small.directory / "aside.db"
    through_outage(small, lambda: path.rename(aside), lambda: aside.rename(path), 10, code=2)
    assert whole(small)


@fault(
    "Workers on SQLite are killed in the middle of their writes",
    provoked="`kill -9` of one worker after the other, six times, while jobs are accepted, recorded, finished and told",
    holds="SQLite finds its file whole after each; every job that was accepted is downloaded and told once",
)
def test_workers_killed_while_they_write_leave_a_whole_database(small: Stack) -> None:
    ids: list[str] = []
    with Client(small.redis.url) as client:
        for turn in range(6):
            worker = small.work(ready=False)
            before = small.services.store.counts()
            for n in range(10):
                wish = {"uri": small.origin.url(f"file/{turn}-{n}?size={SIZE}&seed={n}"), "user": f"u{n % 3}", "key": f"{turn}-{n}"}
                ids.append(client.enqueue(**wish).id if n % 2 else small.ask(**wish))
            eventually(lambda: small.services.store.counts() != before, "it writes", seen=small.tail)  # noqa: B023
            time.sleep(0.02 * turn)  # not always in the same place
            worker.kill()
            assert whole(small)
    small.work(ready=False)
    for id, job in zip(ids, small.until_all(ids, timeout_s=LEASE_S + 45), strict=True):
        assert job.attempt == 1
        assert small.told(id, LEASE_S) == TOLD
    assert set(small.origin.bytes_served.values()) == {SIZE}


@fault(
    "The database is damaged when a process starts",
    provoked="the whole file but its first bytes, then these, are overwritten with noise",
    holds="every command and role ends at once with words that name the file and what to do; no byte of the file is changed",
)
def test_a_damaged_database_is_named_and_left_alone(small: Stack) -> None:
    small.ask_all([{"uri": f"file/{n}?size=1", "user": "u"} for n in range(300)])
    small.services.store.close()
    path = small.directory / "haul.db"
    for head, words in ((100, "the database is damaged; restore a backup"), (0, "is not an SQLite database; choose another path")):
        damaged = path.read_bytes()[:head] + os.urandom(path.stat().st_size - head)
        path.write_bytes(damaged)
        for command in ("list", "api", "supervise") if head else ("list",):
            done = haul(small, command)
            assert done.returncode == (3 if head else 2), done
            assert str(path) in done.stderr
            assert words in done.stderr
            assert "Traceback" not in done.stderr
        assert path.read_bytes() == damaged
