"""Writes put together beside single ones and beside the bare driver; the doors beside Celery's; readers that share a pool."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bson import ObjectId
from celery import Celery

from tests.bench import posts
from tests.mongodb import mongo_server
from tests.servers import redis_program
from worker.cli.servers import start_valkey
from worker.client import Client
from worker.jobs.model import Job, Progress, Request, Source, SourceKind, new_job
from worker.metrics import Metrics
from worker.ports import SWEEPER, Change, JobStore
from worker.store import open_store
from worker.store.batching import BatchingStore
from worker.store.mongo import queries

SINGLE, BATCH, WRITERS, TURNS = 40, 200, 32, 5
LONE = 50
#: How often an engine's owner tells of a job in the time that progress is kept back, in a burst.
VALUES = 25
MANY = 10_000
READERS, REST_S, READ_S = 200, 1.0, 15.0
CLIENTS, POSTS_S = 32, 6.0


def batching(directory: Path, rounds: int) -> dict[str, Any]:
    """Ratios of one run each; see the fields' names."""
    gc.freeze()  # as `wiring.build` does
    (directory / "redis").mkdir()
    redis = start_valkey(redis_program(), directory / "redis")
    try:
        with mongo_server(directory / "mongodb") as server:
            url = f"mongodb://{server.address}/bench?timeoutMS=120000"
            figures = {**_writes(f"sqlite:///{directory}/bench.db", "sqlite", rounds), **_writes(url, "mongodb", rounds)}
            figures |= _against_driver(url, rounds)
            figures |= _readers(url)
        figures |= _posted(redis.url, directory, rounds)
        return {**figures, **_doors(redis.url, rounds)}
    finally:
        redis.stop()


def _jobs(count: int, name: str) -> list[Job]:
    source = Source(SourceKind.HTTP, "https://host.example/some/path/file.iso?token=abc")
    return [new_job(Request(source, f"user {n % 50}", f"{name} {n}"), time.time()) for n in range(count)]


def _s(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _changes(jobs: Sequence[Job]) -> list[Change]:
    return [Change(job, job.noted(0.0, "looked at")) for job in jobs]


def _writes(url: str, name: str, rounds: int) -> dict[str, Any]:
    """A second's changes: one by one, by one caller in batches, and by many callers with one each; a lone one, bare and batched."""
    with _stores(url) as (bare, ours):
        single, batch, many, lone_bare, lone_ours, added, added_many, shown, shown_ours = [[] for _ in range(9)]
        for turn in range(rounds):
            jobs = _jobs(SINGLE + BATCH + WRITERS * TURNS, f"{turn}")
            added.append(SINGLE / _s(lambda: [bare.insert([job]) for job in jobs[:SINGLE]]))  # noqa: B023
            added_many.append((len(jobs) - SINGLE) / _s(lambda: ours.insert(jobs[SINGLE:])))  # noqa: B023
            singly, batched, crowd = jobs[:SINGLE], jobs[SINGLE : SINGLE + BATCH], jobs[SINGLE + BATCH :]
            single.append(SINGLE / _s(lambda: [bare.apply([change]) for change in _changes(singly)]))  # noqa: B023
            batch.append(BATCH / _s(lambda: ours.apply(_changes(batched))))  # noqa: B023
            with ThreadPoolExecutor(WRITERS) as threads:
                list(threads.map(time.sleep, [0.01] * WRITERS))  # all of them are there
                many.append(len(crowd) / _s(lambda: list(threads.map(lambda c: ours.apply([c]), _changes(crowd)))))  # noqa: B023
            shown.append(_progress(bare, jobs[:SINGLE], 1))
            shown_ours.append(_progress(ours, jobs[:SINGLE], VALUES))
            one = jobs[0]
            for _ in range(LONE):
                for store, took in ((bare, lone_bare), (ours, lone_ours)):
                    [known] = bare.get([one.id]).values()
                    took.append(_s(lambda: store.apply(_changes([known]))))  # noqa: B023
    return {
        f"{name}_inserts_one_by_one_a_second": median(added),
        f"{name}_ratio_of_inserts": median(added_many) / median(added),
        f"{name}_changes_one_by_one_a_second": median(single),
        f"{name}_ratio_of_changes": median(batch) / median(single),
        f"{name}_ratio_of_changes_by_{WRITERS}_callers": median(many) / median(single),
        f"{name}_progress_one_by_one_a_second": median(shown),
        f"{name}_ratio_of_progress": median(shown_ours) / median(shown),
        f"{name}_limit_ratio": 15 if name == "mongodb" else 5,
        f"{name}_lone_to_bare": median(lone_ours) / median(lone_bare),
        f"{name}_lone_limit": 1.2,
    }


def _progress(store: JobStore, jobs: Sequence[Job], times: int) -> float:
    """Values of progress a second, told job by job, each job's so many times; until all of it is written."""
    lease = store.acquire_lease("engine:bench", "bench", 600)
    assert lease is not None

    def tell() -> None:
        for done in range(times):
            for job in jobs:
                store.record_progress({job.id: Progress(done)}, lease)
        store.release_lease(lease)  # before which what is kept is written

    return times * len(jobs) / _s(tell)


@contextmanager
def _stores(url: str) -> Iterator[tuple[JobStore, BatchingStore]]:
    with closing(open_store(url)) as bare, closing(BatchingStore(open_store(url), Metrics())) as ours:
        yield bare, ours


def _against_driver(url: str, rounds: int) -> dict[str, Any]:
    """The same operations: through our path, and as one `bulk_write` of operations that are there already."""
    ours_s, bare_s, built_s = [], [], []
    with _stores(url) as (bare, ours):
        collection: Any = bare._connection.collection(queries.JOBS)  # type: ignore[attr-defined]
        for turn in range(rounds):
            jobs = _jobs(BATCH, f"driver {turn}")
            ours.insert(jobs)
            first = _changes(jobs)
            second = _changes([change.new for change in first])
            ready = [queries.apply(change, 1, ObjectId(change.mark), None) for change in second]
            ours_s.append(_s(lambda: ours.apply(first)))  # noqa: B023
            bare_s.append(_s(lambda: collection.bulk_write(ready, ordered=False)))  # noqa: B023
            third = _changes([change.new for change in second])
            built_s.append(_s(lambda: [queries.apply(change, 1, ObjectId(change.mark), None) for change in third]))  # noqa: B023
    return {
        "mongodb_path_to_bulk_write": median(bare_s) / median(ours_s),
        "of_it_making_the_operations": median(built_s) / median(ours_s),
        "path_limit": 0.8,
    }


def _readers(url: str) -> dict[str, Any]:
    """200 readers that pause a second between two reads, on the pool of `production`: connections, and the wait for one."""
    metrics, jobs, most, over = Metrics(), _jobs(50, "read"), [0.0], threading.Event()
    value = metrics.registry.get_sample_value
    with closing(open_store(url, profile="production", metrics=metrics)) as store:
        store.insert(jobs)

        def read(number: int) -> None:
            over.wait(REST_S * number / READERS)
            while not over.is_set():
                store.get([jobs[number % 50].id])
                over.wait(REST_S)

        readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        for reader in readers:
            reader.start()
        until = time.monotonic() + READ_S
        while time.monotonic() < until:
            most[0] = max(most[0], value("haul_pool_connections", {"pool": "store"}) or 0.0)
            time.sleep(0.05)
        over.set()
        for reader in readers:
            reader.join()
        waits = value("haul_pool_wait_seconds_count", {"pool": "store"}) or 1.0
        within = {
            bound: (value("haul_pool_wait_seconds_bucket", {"pool": "store", "le": str(bound)}) or 0.0) / waits for bound in (0.001, 0.01)
        }
    return {
        "readers": READERS,
        "reads": int(waits),
        "connections_most": most[0],
        "limit_connections": 40,
        "share_of_waits_under_10_ms": within[0.01],
        "limit_share": 0.99,
        "share_under_1_ms": within[0.001],
    }


def _posted(redis_url: str, directory: Path, rounds: int) -> dict[str, Any]:
    """POST /v1/jobs a second, with 32 clients in another process, by a server whose writes are put together and one whose are not."""
    by: dict[str, list[float]] = {"one": [], "batched": []}
    for turn in range(rounds):
        for how, took in by.items():
            command = [sys.executable, "-m", "tests.bench.posts", how, redis_url, str(directory / f"posts-{how}-{turn}")]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
            assert server.stdout is not None
            try:
                url = next(line.strip() for line in server.stdout if line.startswith("http"))
                took.append(posts.posted_a_second(url, CLIENTS, POSTS_S))
            finally:
                server.communicate("\n", timeout=60)
    one, batched = median(by["one"]), median(by["batched"])
    return {"posts_a_second": batched, "posts_a_second_before": one, "ratio_posts": batched / one, "clients": CLIENTS}


def _doors(redis_url: str, rounds: int) -> dict[str, Any]:
    """The bot's door beside `delay()` of a task with the same arguments, by one thread on one connection each."""
    app = Celery("bench", broker=redis_url, set_as_current=False)
    app.conf.task_ignore_result = True
    task = app.task(name="bench.enqueue")(_nothing)
    many, loop, one, pending, delay = [], [], [], [], []
    with Client(redis_url) as client:
        spec = {"uri": "https://host.example/some/path/file.iso?token=abc", "user": "bench"}
        task.delay(**spec)
        client.enqueue(**spec)
        for turn in range(rounds):
            specs = [{**spec, "key": f"{turn}:{n}"} for n in range(MANY)]
            many.append(_s(lambda: client.enqueue_many(specs)))  # noqa: B023
            loop.append(_s(lambda: [task.delay(**each) for each in specs]))  # noqa: B023
            redis, wake = client._coordinator._redis, client._coordinator._keys.wake(SWEEPER)
            for each in specs[:500]:
                redis.delete(wake)  # nobody was told yet that there is work
                one.append(_s(lambda: client.enqueue(**each)))  # noqa: B023
                delay.append(_s(lambda: task.delay(**each)))  # noqa: B023
                pending.append(_s(lambda: client.enqueue(**each)))  # noqa: B023
            client._coordinator._redis.flushdb()
    return {
        "enqueue_many_s": median(many),
        "delay_loop_s": median(loop),
        "ratio_many_to_loop": median(loop) / median(many),
        "limit_many": 10,
        "enqueue_us": median(one) * 1e6,
        "delay_us": median(delay) * 1e6,
        "ratio_one": median(delay) / median(one),
        "limit_one": 0.6,
        "ratio_one_while_a_nudge_is_pending": median(delay) / median(pending),
        "limit_pending": 2.5,
    }


def _nothing(**_: Any) -> None:
    """The task nobody runs."""
