"""What must not happen when several run at once, and when one of them dies: nothing is lost, nothing is fetched twice.

A dead holder's lease ends by itself after half a minute. Scenarios that wait for that wait together, each on a stack of its own.
"""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.engines import aria2c_program, qbittorrent_program
from tests.e2e.stack import SLACK_BYTES, CeleryWorker, Stack, Worker, digest, eventually, metalink, sha256, story
from tests.origin import content
from tests.torrents import pack, web_seeded
from worker import pipeline
from worker.cli.qbittorrent import start_qbittorrent
from worker.cli.servers import Server, start_aria2c
from worker.client import Client
from worker.limits import LEASE_S

SIZE = 200_000
RATE = 300_000
#: From a kill until another process looks after the engine: the rest of the lease, a look of the next one, and some time to start.
TAKEOVER_S = LEASE_S + 8
RECOVERY_S = 75

CRASHES = [
    *("accept.recorded", "intake.recorded", "admit.recorded", "start.intent", "start.submitted", "tick.recorded"),
    *("finish.intended", "finish.moved", "finish.recorded", "notify.send", "notify.mark"),
]
TORRENT_CRASHES = ["start.submitted", "tick.recorded", "finish.moved"]
ENGINES = ("aria2", "qbittorrent")


@pytest.fixture(scope="module")
def aria2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An aria2 for many small stacks; each has a volume, and users, of its own."""
    directory = tmp_path_factory.mktemp("aria2")
    server = start_aria2c(aria2c_program(), directory, directory, slots=32)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def qbittorrent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A qBittorrent for many small stacks."""
    directory = tmp_path_factory.mktemp("qbittorrent")
    server = start_qbittorrent(qbittorrent_program(), directory, directory, slots=32, discovery=False)
    yield server
    server.stop()


def together(scenarios: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """Run all at once; what went wrong, by name."""
    with ThreadPoolExecutor(len(scenarios)) as pool:
        running = {name: pool.submit(scenario) for name, scenario in scenarios.items()}
    return {name: f"{type(error).__name__}: {error}" for name, future in running.items() if (error := future.exception())}


# ---- two at once ----


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Stack, list[Worker]]]:
    """A stack with two workers, a supervisor in each."""
    with Stack(tmp_path / "pair", slots=16) as stack:
        workers = [stack.work(CeleryWorker), stack.work(ready=False)]
        yield stack, workers


def test_two_workers_and_two_supervisors_download_each_of_a_hundred_jobs_once(pair: tuple[Stack, list[Worker]]) -> None:
    stack, workers = pair
    specs = [{"uri": f"file/f{n}?size={SIZE}&seed={n % 5}", "user": f"user-{n % 9}", "key": str(n)} for n in range(100)]
    ids = stack.ask_all(specs[:60])
    with Client(stack.redis.url) as client:
        ids += [ticket.id for ticket in client.enqueue_many([{**s, "uri": stack.origin.url(s["uri"])} for s in specs[50:]])][10:]

    jobs = stack.until_all(ids, timeout_s=60)

    assert len(set(ids)) == 100
    assert [sha256(job.result.path) == digest(SIZE, n % 5) for n, job in enumerate(jobs) if job.result] == [True] * 100
    assert {path: count for path, count in stack.origin.requests.items() if count != 1} == {}
    assert {path: size for path, size in stack.origin.bytes_served.items() if size != SIZE} == {}
    assert {tuple(stack.told(job.id)) for job in jobs} == {("job.queued", "job.started", "job.completed")}

    begun = time.monotonic()
    assert workers[0].stop() == 0
    eventually(lambda: stack.owner() == workers[1].pid, "the other one takes over at once", 10, stack.tail)
    print(f"stopped and taken over: {time.monotonic() - begun:.1f} s")
    stack.check_delivered(stack.ask(f"file/after?size={SIZE}", "after"), digest(SIZE))


# ---- a process dies ----


def crash_at(name: str, directory: Path, aria2: Server) -> None:
    """The worker dies at a point; the next one finishes what it had begun."""
    with Stack(directory, servers={"aria2": aria2}) as stack, Client(stack.redis.url) as client:
        first = stack.work(HAUL_FAILPOINT=f"{name}:kill:1")
        two = metalink(stack.origin, "two.meta4", {"a.bin": (SIZE, 2), "b.bin": (SIZE, 3)})
        uris = [stack.origin.url(f"file/one.bin?size={SIZE}&seed=1"), two]
        one, several = [
            ticket.id for ticket in client.enqueue_many([{"uri": uri, "user": directory.name, "key": uri[-9:]} for uri in uris])
        ]
        eventually(lambda: first.ended() is not None, "the worker dies", seen=stack.tail)
        assert first.ended() == -signal.SIGKILL, stack.tail()

        second = stack.work(ready=False)
        eventually(lambda: stack.owner() == second.pid, "the next one takes over", TAKEOVER_S, stack.tail)

        stack.until_all([one, several], timeout_s=RECOVERY_S)
        stack.check_delivered(one, digest(SIZE, 1), "one.bin")
        check_two(stack, several)
        fetched = {path: stack.origin.bytes_served[f"/file/{path}"] for path in ("one.bin", "a.bin", "b.bin")}
        assert fetched == dict.fromkeys(fetched, SIZE), "each was downloaded once"
        for id in (one, several):
            assert stack.told(id, RECOVERY_S) == ["job.queued", "job.started", "job.completed"]


def check_two(stack: Stack, id: str) -> None:
    """Both files of the metalink are in place, and nothing else."""
    job = stack.job(id)
    assert job.result is not None
    assert {file.name: sha256(file) for file in Path(job.result.path).iterdir()} == {"a.bin": digest(SIZE, 2), "b.bin": digest(SIZE, 3)}
    assert [entry.name for entry in (stack.downloads / id).iterdir()] == [Path(job.result.path).name]
    stack.check_gone(job)


def crash_while_cancelling(directory: Path, aria2: Server) -> None:
    """The worker dies when aria2 has forgotten the job and the record does not say so yet."""
    with Stack(directory, servers={"aria2": aria2}) as stack:
        first = stack.work(HAUL_FAILPOINT="cancel.removed:kill:1")
        id = stack.ask(f"file/x?size=5000000&rate={RATE}", directory.name)
        stack.until_bytes("/file/x", 100_000)
        stack.until(id, "downloading")
        stack.act(id, "cancel")
        eventually(lambda: first.ended() is not None, "the worker dies", seen=stack.tail)

        stack.work(ready=False)

        job = stack.until(id, "cancelled", timeout_s=RECOVERY_S)
        stack.check_gone(job)
        assert stack.told(id, RECOVERY_S) == ["job.queued", "job.started", "job.cancelled"]


def killed_in_the_middle(directory: Path, aria2: Server) -> None:
    """kill -9 during downloads: the next worker takes over in time, and what aria2 fetched meanwhile counts."""
    size, paused_size = RATE * 45, RATE * 10
    with Stack(directory, servers={"aria2": aria2}) as stack:
        first = stack.work()
        long, short, paused = stack.ask_all(
            [
                {"uri": f"file/{name}?size={n}&rate={RATE}", "user": directory.name}
                for name, n in (("long", size), ("short", SIZE * 3), ("paused", paused_size))
            ]
        )
        for name in ("long", "short", "paused"):
            stack.until_bytes(f"/file/{name}", 50_000)
        stack.act(paused, "pause")
        stack.until(paused, "paused")

        first.kill()
        begun = time.monotonic()
        second = stack.work(ready=False)
        eventually(lambda: stack.owner() == second.pid, "the next one takes over", TAKEOVER_S, stack.tail)
        assert time.monotonic() - begun <= TAKEOVER_S

        stack.check_delivered(short, digest(SIZE * 3))
        stack.act(paused, "resume")
        stack.check_delivered(paused, digest(paused_size))
        stack.until(long, "done", timeout_s=RECOVERY_S)
        stack.check_delivered(long, digest(size))
        assert stack.origin.bytes_served["/file/long"] == size
        assert stack.origin.bytes_served["/file/short"] == SIZE * 3
        assert stack.origin.bytes_served["/file/paused"] <= paused_size + SLACK_BYTES


def torrent(stack: Stack, name: str, size: int, rate: int = 0) -> dict[str, str]:
    """What asks for a torrent of one file, which the origin serves at /doc/INFOHASH/`name`."""
    made = web_seeded(stack.origin, pack({name: content(size, len(name))}, name=name, single=True), rate=rate)
    return {"torrent": base64.b64encode(made.document).decode()}


def served(stack: Stack, name: str) -> int:
    """Bytes that the origin gave of a torrent."""
    return sum(count for path, count in stack.origin.bytes_served.items() if path.endswith(f"/{name}"))


def torrents_crash_at(name: str, directory: Path, servers: Mapping[str, Server]) -> None:
    """The worker dies while torrents run on both engines; the next one finishes each once."""
    with Stack(directory, engines=ENGINES, servers=servers) as stack:
        first = stack.work(HAUL_FAILPOINT=f"{name}:kill:1")
        sizes = {f"{directory.name}-{engine}-{n}": SIZE * (n + 1) for n in range(2) for engine in ENGINES}
        specs = [{"user": n, "engine": n.split("-")[-2], **torrent(stack, n, size, SIZE)} for n, size in sizes.items()]
        ids = dict(zip(sizes, stack.ask_all(specs), strict=True))
        eventually(lambda: first.ended() is not None, "the worker dies", seen=stack.tail)
        assert first.ended() == -signal.SIGKILL, stack.tail()

        second = stack.work(ready=False)
        eventually(lambda: stack.owner() == second.pid, "the next one takes over", TAKEOVER_S, stack.tail)

        stack.until_all(list(ids.values()), timeout_s=RECOVERY_S)
        for file, id in ids.items():
            stack.check_delivered(id, digest(sizes[file], len(file)), file)
            assert stack.told(id, RECOVERY_S) == ["job.queued", "job.started", "job.completed"]
            assert stack.job(id).attempt == 1
            assert served(stack, file) <= sizes[file] + SLACK_BYTES, "it was downloaded once"


def qbittorrent_killed_and_started_again(directory: Path) -> None:
    """Torrents go on where qBittorrent had them, those that ran and those that stood still."""
    size = RATE * 12
    with Stack(directory, engines=("qbittorrent",)) as stack:
        stack.work()
        names = ("running", "stands still", "waits in place")
        running, paused, complete = stack.ask_all(
            [{"user": name, **torrent(stack, name, SIZE if n == 2 else size, RATE)} for n, name in enumerate(names)]
        )
        eventually(lambda: served(stack, "stands still") > RATE, "some of it is here", seen=stack.tail)
        stack.act(paused, "pause")
        stack.until(paused, "paused")
        eventually(lambda: stack.services.coordinator.claim("finish:quick", "test", 60), "nobody finishes anything")
        stack.until(complete, "finishing", "done")
        eventually(lambda: served(stack, "running") > RATE * 3, "it runs", seen=stack.tail)

        server = stack.qbittorrent.server
        server.process.kill()
        server.process.wait()
        server.restart()
        server.await_ready()
        stack.services.coordinator.unclaim("finish:quick", "test")

        stack.act(paused, "resume")
        for name, id in zip(names, (running, paused, complete), strict=True):
            bytes = SIZE if id == complete else size
            stack.until(id, "done", timeout_s=RECOVERY_S)
            stack.check_delivered(id, digest(bytes, len(name)), name)
        assert {stack.job(id).attempt for id in (running, paused, complete)} == {1}, story(stack.job(running))
        assert served(stack, "stands still") <= size + SLACK_BYTES
        print(f"fetched again after a kill: {served(stack, 'running') - size} bytes")


def qbittorrent_with_a_wrong_password(directory: Path) -> None:
    """It is asked once, the overview says what is wrong, and aria2 goes on."""
    with Stack(directory, engines=ENGINES) as stack:
        right = stack.qbittorrent.server.url
        wrong = stack.environment()["HAUL_ENGINES"].replace(
            right, f"{right.rpartition(':')[0].rpartition(':')[0]}:wrong@{right.rpartition('@')[2]}"
        )
        stack.work(ready=False, HAUL_ENGINES=wrong)
        shown = lambda: {engine["name"]: engine for engine in pipeline.overview(stack.services)["engines"]}  # noqa: E731
        eventually(lambda: "password is wrong" in str(shown()["qbittorrent"]["error"]), "it is said", seen=shown)
        assert not shown()["qbittorrent"]["up"]

        stack.check_delivered(stack.ask(f"file/on.bin?size={SIZE}&seed=1", "u"), digest(SIZE, 1), "on.bin")
        anywhere = stack.ask(None, "u", **torrent(stack, "anywhere", SIZE))
        stack.check_delivered(anywhere, digest(SIZE, len("anywhere")), "anywhere")
        only = stack.ask(None, "u", engine="qbittorrent", **torrent(stack, "only", SIZE))
        eventually(lambda: "qbittorrent does not answer" in pipeline.why(stack.services, only).text, "it waits, and says for what")

        looked = stack.services.coordinator.snapshots()["qbittorrent"].at
        for _ in range(3):
            looked = eventually(lambda: (at := stack.services.coordinator.snapshots()["qbittorrent"].at) > looked and at, "looked at")  # noqa: B023
        lines = [line["message"] for line in stack.qbittorrent.ask("log/main")]
        assert len([line for line in lines if "login failure" in line]) == 1, lines
        assert "wrong" not in stack.tail(10_000).replace("password is wrong", ""), "the password is in no log"


def stop_outside_a_write(stack: Stack, worker: Worker) -> None:
    """SIGSTOP; not while it writes, for then SQLite lets nobody write until it goes on."""

    def stopped() -> bool:
        os.kill(worker.pid, signal.SIGSTOP)
        if stack.may_write():
            return True
        os.kill(worker.pid, signal.SIGCONT)
        return False

    eventually(stopped, "it stands still and holds no lock")


def stopped_and_continued(directory: Path, aria2: Server) -> None:
    """A holder that stands still past its lease does no harm when it goes on."""
    with Stack(directory, servers={"aria2": aria2}) as stack:
        first = stack.work()
        id = stack.ask(f"file/x?size={RATE * 5}&rate={RATE}", directory.name)
        stack.until_bytes("/file/x", 50_000)
        stop_outside_a_write(stack, first)
        try:
            second = stack.work(ready=False)
            eventually(lambda: stack.owner() == second.pid, "the next one takes over", TAKEOVER_S, stack.tail)
            stack.until(id, "done", timeout_s=RECOVERY_S)
        finally:
            os.kill(first.pid, signal.SIGCONT)
        more = stack.ask_all([{"uri": f"file/y{n}?size={SIZE}&seed={n}", "user": directory.name} for n in range(20)])
        for n, job in enumerate(stack.until_all(more, timeout_s=RECOVERY_S)):
            stack.check_delivered(job.id, digest(SIZE, n))
        stack.check_delivered(id, digest(RATE * 5))
        assert stack.origin.bytes_served["/file/x"] == RATE * 5
        assert {count for path, count in stack.origin.requests.items()} == {1}


def aria2_killed_and_started_again(directory: Path) -> None:
    """Downloads go on where they were, those that ran and those that stood still."""
    size, autosave_s = RATE * 15, 5
    with Stack(directory) as stack:
        stack.work()
        running, paused, waiting = stack.ask_all(
            [{"uri": f"file/{name}?size={size}&rate={RATE}", "user": name} for name in ("r", "p", "w")]
        )
        stack.until_bytes("/file/p", RATE // 2)
        stack.act(paused, "pause")
        stack.until(paused, "paused")
        stack.until_bytes("/file/r", RATE * 8)
        # One is complete for aria2, and not yet in place, when it dies: aria2 will know nothing of it.
        eventually(lambda: stack.services.coordinator.claim("finish:quick", "test", 60), "nobody finishes anything")
        complete = stack.ask(metalink(stack.origin, "two.meta4", {"a.bin": (SIZE, 2), "b.bin": (SIZE, 3)}), directory.name)
        stack.until(complete, "finishing")
        before = dict(stack.origin.bytes_served)

        stack.aria2.process.kill()
        stack.aria2.process.wait()
        stack.aria2.restart()
        stack.aria2.await_ready()
        stack.services.coordinator.unclaim("finish:quick", "test")

        stack.act(paused, "resume")
        for id in (running, paused, waiting):
            stack.until(id, "done", timeout_s=40)
            stack.check_delivered(id, digest(size))
        lost = {path: served - size for path, served in stack.origin.bytes_served.items()}
        assert lost["/file/r"] <= (autosave_s + 1) * RATE < before["/file/r"], "what was saved is not fetched again"
        assert lost["/file/p"] <= SLACK_BYTES
        stack.until(complete, "done")
        check_two(stack, complete)
        assert [stack.origin.bytes_served[f"/file/{name}.bin"] for name in "ab"] == [SIZE, SIZE]
        assert {stack.job(id).attempt for id in (running, paused, waiting)} == {1}, story(stack.job(running))


def redis_loses_everything(directory: Path) -> None:
    """Whatever Redis held is made again from the records while jobs wait and run."""
    with Stack(directory, slots=2) as stack, Redis.from_url(stack.redis.url) as redis:
        stack.work()
        ids = stack.ask_all([{"uri": f"file/{n}?size={RATE}&rate={RATE}&seed={n}", "user": f"u{n % 3}"} for n in range(8)])
        eventually(lambda: stack.origin.requests, "downloads run")
        redis.flushall()

        stack.until_all(ids, timeout_s=40)
        for n, id in enumerate(ids):
            stack.check_delivered(id, digest(RATE, n))
        assert set(stack.origin.requests.values()) == {1}


def what_nobody_asked_for(directory: Path) -> None:
    """Items of aria2 without a record are removed where we work, and left alone elsewhere."""
    with Stack(directory) as stack:
        slow = stack.origin.url(f"file/x?size=20000000&rate={RATE}")
        orphan = stack.rpc("addUri", [slow], {"dir": str(stack.work_directory("f" * 24) / "aria2"), "gid": "0123456789abcdef"})
        foreign = stack.rpc("addUri", [slow], {"dir": str(directory / "elsewhere"), "gid": "fedcba9876543210"})
        stack.work()

        eventually(lambda: stack.rpc("tellStatus", orphan, ["status"]) is None, "the orphan is removed")
        assert stack.rpc("tellStatus", foreign, ["status"])["status"] == "active"


def test_whoever_dies_at_whatever_point_each_job_is_done_once(tmp_path: Path, aria2: Server, qbittorrent: Server) -> None:
    servers = {"aria2": aria2, "qbittorrent": qbittorrent}
    scenarios: dict[str, Callable[[], object]] = {name: lambda name=name: crash_at(name, tmp_path / name, aria2) for name in CRASHES}
    scenarios["cancel.removed"] = lambda: crash_while_cancelling(tmp_path / "cancel", aria2)
    scenarios["killed in the middle"] = lambda: killed_in_the_middle(tmp_path / "killed", aria2)
    scenarios["stopped and continued"] = lambda: stopped_and_continued(tmp_path / "stopped", aria2)
    scenarios["aria2 killed and started again"] = lambda: aria2_killed_and_started_again(tmp_path / "aria2")

    scenarios |= {
        f"torrents, {name}": lambda name=name: torrents_crash_at(name, tmp_path / f"t-{name}", servers) for name in TORRENT_CRASHES
    }
    scenarios["qBittorrent killed and started again"] = lambda: qbittorrent_killed_and_started_again(tmp_path / "qbittorrent")
    scenarios["wrong password of qBittorrent"] = lambda: qbittorrent_with_a_wrong_password(tmp_path / "password")
    scenarios["redis loses everything"] = lambda: redis_loses_everything(tmp_path / "redis")
    scenarios["what nobody asked for"] = lambda: what_nobody_asked_for(tmp_path / "orphans")

    wrong = together(scenarios)
    assert not wrong, "\n\n".join(f"{name}: {what}" for name, what in wrong.items())
