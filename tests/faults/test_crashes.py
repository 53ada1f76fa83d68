"""A process dies between two effects, or in the middle of everything: nothing is lost, nothing is fetched twice.

A dead holder's lease ends by itself after half a minute. Scenarios that wait for that wait together, each on a stack of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.engines import aria2c_program, qbittorrent_program
from tests.e2e.processes import CeleryWorker, Worker
from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually, metalink, sha256
from tests.faults.catalogue import fault
from tests.faults.deaths import RECOVERY_S, TAKEOVER_S, dying, taken_over, together
from tests.faults.downloads import DONE, ENGINES, RATE, ask, ask_torrent, check, seeded, served
from worker.cli.servers import Server, start_aria2c
from worker.cli.servers.qbittorrent import start_qbittorrent
from worker.client import Client

SIZE = 200_000


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


@pytest.fixture
def servers(aria2: Server, qbittorrent: Server) -> Mapping[str, Server]:
    """Both."""
    return {"aria2": aria2, "qbittorrent": qbittorrent}


# ---- two at once ----


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Stack, list[Worker]]]:
    """A stack with two workers, a supervisor in each."""
    with Stack(tmp_path / "pair", slots=16) as stack:
        workers = [stack.work(CeleryWorker), stack.work(ready=False)]
        yield stack, workers


@fault(
    "Two workers and two supervisors at once; then one is stopped",
    provoked="a hundred jobs of nine users by both doors, some of them asked for twice; SIGTERM",
    holds="each is downloaded once and told in order; the other one takes over at once",
)
def test_two_workers_and_two_supervisors_download_each_of_a_hundred_jobs_once(pair: tuple[Stack, list[Worker]]) -> None:
    stack, workers = pair
    specs = [{"uri": f"file/f{n}?size={SIZE}&seed={n % 5}", "user": f"user-{n % 9}", "key": str(n)} for n in range(100)]
    ids = stack.ask_all(specs[:60])
    with Client(stack.redis.url) as client:
        ids += [ticket.id for ticket in client.enqueue_many([{**s, "uri": stack.origin.url(s["uri"])} for s in specs[50:]])][10:]

    jobs = stack.until_all(ids, timeout_s=90)

    assert len(set(ids)) == 100
    assert [sha256(job.result.path) == digest(SIZE, n % 5) for n, job in enumerate(jobs) if job.result] == [True] * 100
    assert {path: count for path, count in stack.origin.requests.items() if count != 1} == {}
    assert {path: size for path, size in stack.origin.bytes_served.items() if size != SIZE} == {}
    assert {tuple(stack.told(job.id)) for job in jobs} == {tuple(DONE)}

    begun = time.monotonic()
    assert workers[0].stop() == 0
    eventually(lambda: stack.owner() == workers[1].pid, "the other one takes over at once", 10, stack.tail)
    print(f"stopped and taken over: {time.monotonic() - begun:.1f} s")
    stack.check_delivered(stack.ask(f"file/after?size={SIZE}", "after"), digest(SIZE))


# ---- at a point ----


def crash_at(point: str, directory: Path, aria2: Server) -> None:
    """The worker dies at a point; the next one finishes what it had begun."""
    with Stack(directory, servers={"aria2": aria2}) as stack, Client(stack.redis.url) as client:
        with dying(stack, point):
            two = metalink(stack.origin, "two.meta4", {"a.bin": (SIZE, 2), "b.bin": (SIZE, 3)})
            uris = [stack.origin.url(f"file/one.bin?size={SIZE}&seed=1"), two]
            one, several = [
                ticket.id for ticket in client.enqueue_many([{"uri": uri, "user": directory.name, "key": uri[-9:]} for uri in uris])
            ]
        taken_over(stack)

        stack.until_all([one, several], timeout_s=RECOVERY_S)
        stack.check_delivered(one, digest(SIZE, 1), "one.bin")
        check_two(stack, several)
        fetched = {path: stack.origin.bytes_served[f"/file/{path}"] for path in ("one.bin", "a.bin", "b.bin")}
        assert fetched == dict.fromkeys(fetched, SIZE), "each was downloaded once"
        for id in (one, several):
            assert stack.told(id, RECOVERY_S) == DONE


def check_two(stack: Stack, id: str) -> None:
    """Both files of the metalink are in place, and nothing else."""
    job = stack.job(id)
    assert job.result is not None
    assert {file.name: sha256(file) for file in Path(job.result.path).iterdir()} == {"a.bin": digest(SIZE, 2), "b.bin": digest(SIZE, 3)}
    assert [entry.name for entry in (stack.downloads / id).iterdir()] == [Path(job.result.path).name]
    stack.check_gone(job)


BEFORE_THE_ENGINE = (
    "intake.taken",
    "accept.recorded",
    "intake.recorded",
    "probe.asked",
    "probe.recorded",
    "admit.recorded",
    "admit.dropped",
    "start.intent",
    "start.submitted",
)
BEHIND_THE_ENGINE = (
    *("tick.recorded", "finish.begun", "finish.intended", "finish.moved", "finish.recorded", "finish.deleted"),
    *("notify.send", "notify.mark"),
)


@fault(
    "A worker dies between a door and the engine",
    provoked=f"kill -9 at {', '.join(BEFORE_THE_ENGINE)}",
    holds="the next worker carries the jobs on: each file is fetched once, put in place and told of in order",
)
def test_a_job_whose_worker_dies_before_an_engine_has_it_is_done_once(tmp_path: Path, aria2: Server) -> None:
    together({point: lambda point=point: crash_at(point, tmp_path / point, aria2) for point in BEFORE_THE_ENGINE})


@fault(
    "A worker dies between the end of a download and the last word about it",
    provoked=f"kill -9 at {', '.join(BEHIND_THE_ENGINE)}",
    holds="the next worker carries the jobs on: each file is fetched once, put in place and told of in order; nothing is left elsewhere",
)
def test_a_job_whose_worker_dies_behind_the_engine_is_done_once(tmp_path: Path, aria2: Server) -> None:
    together({point: lambda point=point: crash_at(point, tmp_path / point, aria2) for point in BEHIND_THE_ENGINE})


# ---- torrents ----


def torrents_crash_at(point: str, directory: Path, servers: Mapping[str, Server]) -> None:
    """The worker dies while torrents run on both engines; the next one finishes each once."""
    with Stack(directory, engines=ENGINES, servers=servers) as stack:
        with dying(stack, point):
            sizes = {f"{directory.name}-{engine}-{n}": (engine, SIZE * (n + 1)) for n in range(2) for engine in ENGINES}
            ids = {name: ask_torrent(stack, name, size, SIZE, engine=engine) for name, (engine, size) in sizes.items()}
        taken_over(stack)

        stack.until_all(list(ids.values()), timeout_s=RECOVERY_S)
        for name, id in ids.items():
            _, size = sizes[name]
            check(stack, id, name, size)
            assert stack.told(id, RECOVERY_S) == DONE
            assert stack.job(id).attempt == 1
            assert served(stack, name) <= size + SLACK_BYTES, "it was downloaded once"


def torrents_of_a_bot_crash_at(point: str, directory: Path, servers: Mapping[str, Server]) -> None:
    """One comes with its request, one by its address; the worker dies while it keeps one of them."""
    with Stack(directory, engines=ENGINES, servers=servers) as stack, Client(stack.redis.url) as client:
        with dying(stack, point):
            names = (f"{directory.name} upload", f"{directory.name} by address")
            upload, fetched = (seeded(stack, name, SIZE) for name in names)
            address = stack.origin.document(f"{directory.name}.torrent", fetched.document)
            asked = [{"torrent": upload.document}, {"uri": address}]
            tickets = client.enqueue_many([{"user": directory.name, "key": str(n), **spec} for n, spec in enumerate(asked)])
        taken_over(stack)

        stack.until_all([ticket.id for ticket in tickets], timeout_s=RECOVERY_S)
        for ticket, name in zip(tickets, names, strict=True):
            check(stack, ticket.id, name, SIZE)
            assert stack.told(ticket.id, RECOVERY_S) == DONE
            assert served(stack, name) <= SIZE + SLACK_BYTES


def seeding_ends_in_a_crash_at(point: str, directory: Path, servers: Mapping[str, Server]) -> None:
    """The worker dies while it ends the seeding of a torrent; the next one ends it, and the file in place stays."""
    name = directory.name
    with Stack(directory, engines=("qbittorrent",), servers=servers) as stack:
        with dying(stack, point):
            id = ask_torrent(stack, name, SIZE, rate=0, engine="qbittorrent", seed_ratio=9.0)
            stack.until(id, "done", timeout_s=RECOVERY_S)
            assert stack.job(id).seeding
            told = stack.told(id, RECOVERY_S)
            [row] = stack.qbittorrent.rows(tag=stack.gid(stack.job(id)))
            eventually(lambda: stack.work_directory(id).exists(), "the engine keeps its copy")
            stack.qbittorrent.ask("torrents/delete", hashes=row["hash"], deleteFiles="false")
        taken_over(stack)

        eventually(lambda: not stack.job(id).seeding, "it seeds no more", RECOVERY_S, stack.tail)
        check(stack, id, name, SIZE)
        assert stack.told(id) == told == DONE


TORRENTS_RUN = ("start.submitted", "tick.recorded", "finish.moved")
TORRENTS_COME = ("accept.kept", "describe.kept", "describe.recorded")
TORRENTS_SEED = ("seed.removed", "seed.deleted")


@fault(
    "A worker dies while it keeps the .torrent files of jobs, while torrents run on both engines, or while it ends their seeding",
    provoked=f"kill -9 at {', '.join((*TORRENTS_COME, *TORRENTS_RUN, *TORRENTS_SEED))}",
    holds="each torrent is fetched once, as its first attempt, put in place and told of in order; what seeded enough is forgotten",
)
def test_a_torrent_whose_worker_dies_is_done_once(tmp_path: Path, servers: Mapping[str, Server]) -> None:
    kinds = {torrents_of_a_bot_crash_at: TORRENTS_COME, torrents_crash_at: TORRENTS_RUN, seeding_ends_in_a_crash_at: TORRENTS_SEED}
    together(
        {
            point: lambda crash=crash, point=point: crash(point, tmp_path / f"t-{point}", servers)
            for crash, points in kinds.items()
            for point in points
        }
    )


# ---- what users ask for ----


def under_way(stack: Stack, size: int, user: str) -> str:
    """A job that downloads, with some of its bytes here."""
    id = stack.ask(f"file/x?size={size}&rate={RATE}", user)
    stack.until_bytes("/file/x", 100_000, RECOVERY_S)
    stack.until(id, "downloading", timeout_s=RECOVERY_S)
    return id


def crash_while_cancelling(point: str, directory: Path, aria2: Server) -> None:
    """The worker dies when the wish is recorded, when aria2 has forgotten the job, or when its files are gone, too."""
    with Stack(directory, servers={"aria2": aria2}) as stack, Client(stack.redis.url) as client:
        with dying(stack, point):
            id = under_way(stack, 5_000_000, directory.name)
            client.control(id, "cancel")

        stack.work(ready=False)

        job = stack.until(id, "cancelled", timeout_s=RECOVERY_S)
        stack.check_gone(job)
        assert stack.told(id, RECOVERY_S) == ["job.queued", "job.started", "job.cancelled"]


def crash_while_pausing(point: str, directory: Path, aria2: Server) -> None:
    """The worker dies when it has asked aria2 to pause a job and the record does not say so yet."""
    size = RATE * 4
    with Stack(directory, servers={"aria2": aria2}) as stack:
        with dying(stack, point):
            id = under_way(stack, size, directory.name)
            stack.act(id, "pause")

        stack.work(ready=False)

        stack.until(id, "paused", timeout_s=RECOVERY_S)
        stack.act(id, "resume")
        stack.until(id, "done", timeout_s=RECOVERY_S)
        stack.check_delivered(id, digest(size))
        assert stack.origin.bytes_served["/file/x"] <= size + SLACK_BYTES


CANCELLED = ("control.recorded", "cancel.removed", "cancel.deleted")
PAUSED = ("pause.asked",)


@fault(
    "A worker dies on the way from a user's wish to the engine and back to the record",
    provoked=f"kill -9 at {', '.join((*CANCELLED, *PAUSED))}",
    holds="the job is cancelled and nothing is left of it; a paused one stands, and goes on from where it was when it is resumed",
)
def test_what_a_user_asked_for_comes_true_though_the_worker_dies(tmp_path: Path, aria2: Server) -> None:
    cancelled = {point: lambda point=point: crash_while_cancelling(point, tmp_path / point, aria2) for point in CANCELLED}
    paused = {point: lambda point=point: crash_while_pausing(point, tmp_path / point, aria2) for point in PAUSED}
    together(cancelled | paused)


# ---- what is put right ----


def crash_while_trying_again(point: str, directory: Path, aria2: Server) -> None:
    """The server refuses once; the worker dies when the next attempt is recorded, or when the old one is removed, too."""
    with Stack(directory, servers={"aria2": aria2}) as stack:
        with dying(stack, point):
            id = stack.ask(f"flaky/x?fails=1&status=500&size={SIZE}", directory.name)
        assert (stack.job(id).state, stack.job(id).attempt) == ("queued", 2)
        taken_over(stack)

        stack.until(id, "done", timeout_s=RECOVERY_S)
        stack.check_delivered(id, digest(SIZE))
        assert stack.job(id).attempt == 2
        assert stack.origin.requests["/flaky/x"] == 2


def crash_while_handing_back(directory: Path, aria2: Server) -> None:
    """Somebody stops a download at aria2 itself; the worker dies when it has told aria2 to go on."""
    size = RATE * 4
    with Stack(directory, servers={"aria2": aria2}) as stack:
        with dying(stack, "start.submitted", 2):
            id = under_way(stack, size, directory.name)
            stack.rpc("forcePause", stack.gid(stack.job(id)))
        taken_over(stack)

        stack.until(id, "done", timeout_s=RECOVERY_S)
        stack.check_delivered(id, digest(size))
        assert stack.job(id).attempt == 1
        assert stack.origin.bytes_served["/file/x"] <= size + SLACK_BYTES


def crash_while_putting_aside(directory: Path, servers: Mapping[str, Server]) -> None:
    """A job waits for its engine, which is full, while the other one has room; the worker dies when it is to be looked at later."""
    size = RATE * 3
    with Stack(directory, slots=1, engines=ENGINES, servers=servers) as stack:
        with dying(stack, "admit.aside"):
            ids = [ask(stack, "aria2", name, size) for name in ("runs", "waits")]
        taken_over(stack)

        stack.until_all(ids, timeout_s=RECOVERY_S)
        for id, name in zip(ids, ("runs", "waits"), strict=True):
            check(stack, id, name, size)
            assert stack.told(id, RECOVERY_S) == DONE
        assert set(stack.origin.bytes_served.values()) == {size}


def crash_while_removing_an_orphan(directory: Path) -> None:
    """The worker dies when it is about to remove an item that no record asks for; the next one removes it."""
    with Stack(directory) as stack:
        slow = stack.origin.url(f"file/x?size=20000000&rate={RATE}")
        orphan = stack.rpc("addUri", [slow], {"dir": str(stack.work_directory("f" * 24) / "aria2"), "gid": "0123456789abcdef"})
        with dying(stack, "orphan.found"):
            pass
        assert stack.rpc("tellStatus", orphan, ["status"])["status"] == "active"
        taken_over(stack)
        eventually(lambda: stack.rpc("tellStatus", orphan, ["status"]) is None, "the orphan is removed", seen=stack.tail)


TRIED_AGAIN = ("tick.recorded", "spent.removed")


@fault(
    "A worker dies while it puts right what went wrong: a failed attempt, a stopped download, a full engine, an orphan",
    provoked=f"kill -9 at {', '.join((*TRIED_AGAIN, 'start.submitted', 'admit.aside', 'orphan.found'))}",
    holds="the next worker puts it right: the second attempt is made, once; the download goes on where it was; the orphan is removed",
)
def test_what_was_to_be_put_right_is_put_right_though_the_worker_dies(tmp_path: Path, aria2: Server, servers: Mapping[str, Server]) -> None:
    again = {point: lambda point=point: crash_while_trying_again(point, tmp_path / f"again-{point}", aria2) for point in TRIED_AGAIN}
    others = {
        "handed back": lambda: crash_while_handing_back(tmp_path / "back", aria2),
        "put aside": lambda: crash_while_putting_aside(tmp_path / "aside", servers),
        "orphan": lambda: crash_while_removing_an_orphan(tmp_path / "orphan"),
    }
    together(again | others)


# ---- anywhere ----


@fault(
    "The only worker, with its supervisor, is killed while downloads run and one is paused",
    provoked="kill -9; another worker is started",
    holds="it takes over when the lease has ended; what the engine fetched meanwhile counts, and not a byte is fetched twice",
)
def test_a_worker_that_is_killed_in_the_middle_is_succeeded_in_time(tmp_path: Path) -> None:
    size, paused_size = RATE * 45, RATE * 10
    with Stack(tmp_path / "killed") as stack:
        first = stack.work()
        sizes = {"long": size, "short": SIZE * 3, "paused": paused_size}
        ids = {name: stack.ask(f"file/{name}?size={n}&rate={RATE}", "u") for name, n in sizes.items()}
        for name in sizes:
            stack.until_bytes(f"/file/{name}", 50_000)
        stack.act(ids["paused"], "pause")
        stack.until(ids["paused"], "paused")

        first.kill()
        begun = time.monotonic()
        taken_over(stack)
        assert time.monotonic() - begun <= TAKEOVER_S

        stack.check_delivered(ids["short"], digest(SIZE * 3))
        stack.act(ids["paused"], "resume")
        stack.check_delivered(ids["paused"], digest(paused_size))
        stack.until(ids["long"], "done", timeout_s=RECOVERY_S)
        stack.check_delivered(ids["long"], digest(size))
        assert stack.origin.bytes_served["/file/long"] == size
        assert stack.origin.bytes_served["/file/short"] == SIZE * 3
        assert stack.origin.bytes_served["/file/paused"] <= paused_size + SLACK_BYTES
