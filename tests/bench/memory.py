"""What a request costs in memory, with the pools and the cache and without: the same readers in processes of their own.

Each process has its threads and everything loaded before the first look. Then so many readers, who pause between two requests, read jobs
and pages as the API does, and the process is looked at every 10 ms: what it has grown by at most, over the requests that are under way
at once at most (the readers), is the figure. `uss` is what the process alone holds (psutil); `traced` the peak of what Python allocated
(tracemalloc), in a run of its own, for it slows everything. Without pools each request opens a client of its own and closes it.

python -m tests.bench.memory MODE TRACED STORE_URL CACHE_URL      one process
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.machine import services_of
from tests.mongodb import mongo_server
from tests.servers import redis_program
from worker.answers import Answers
from worker.cli.servers import start_valkey
from worker.coordination.cache.redis import redis_cache
from worker.jobs.model import Request, Source, SourceKind, new_job
from worker.limits import CACHE_BYTES, CACHE_SHARED_BYTES
from worker.ports import Cache, NoCache
from worker.store import open_store

READERS, REQUESTS, PAUSE_S = 100, 8, 1.0
JOBS, USERS, PAGE = 2_000, 40, 50
LOOK_S = 0.01
MODES = ("neither", "pools", "both")
PROCESS_S = 300.0

Ask = Callable[[random.Random], object]


def memory(directory: Path, rounds: int) -> dict[str, Any]:
    """KiB a request that is under way: with neither, with the pools alone, with both; the last over the first (at most 0.6)."""
    (directory / "redis").mkdir()
    redis = start_valkey(redis_program(), directory / "redis")
    seen: dict[str, list[float]] = {}
    try:
        with mongo_server(directory / "mongodb") as server:
            url = f"mongodb://{server.address}/bench?timeoutMS=120000"
            with closing(open_store(url)) as store:
                store.insert([_job(number) for number in range(JOBS)])
            for _ in range(rounds):
                for mode in MODES:
                    for traced in ("uss", "traced"):
                        command = [sys.executable, "-m", "tests.bench.memory", mode, traced, url, redis.url]
                        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PROCESS_S).stdout
                        for name, value in json.loads(told.splitlines()[-1]).items():
                            seen.setdefault(f"{mode}_{name}", []).append(value)
    finally:
        redis.stop()
    figures = {name: median(values) for name, values in seen.items()}
    kinds = ("uss_kib", "traced_kib")
    ratios = {f"ratio_{kind}": figures[f"both_{kind}"] / figures[f"neither_{kind}"] for kind in kinds}
    return {**figures, **ratios, "readers": READERS, "limit_ratio": 0.6, "load": os.getloadavg()[0]}


def _job(number: int) -> Any:
    source = Source(SourceKind.HTTP, f"https://host.example/files/{number}/a-name-of-usual-length.iso")
    return new_job(Request(source, f"user{number % USERS}", key=f"chat7:{number}"), 1_700_000_000.0)


def one(mode: str, traced: str, store_url: str, cache_url: str) -> None:
    """Be one process, and print what a request cost."""
    cache: Cache = NoCache()
    if mode == "both":
        cache = redis_cache(cache_url, prefix=f"bench{os.getpid()}", bytes_max=CACHE_BYTES, shared_bytes_max=CACHE_SHARED_BYTES)
    with closing(open_store(store_url, profile="production")) as store, closing(cache):
        answers = Answers(services_of(Path("/nonexistent"), store, [], cache=cache))
        ids = [_job(number).id for number in range(JOBS)]

        def pooled(chance: random.Random) -> object:
            return _request(answers, ids, chance)

        def alone(chance: random.Random) -> object:
            with closing(open_store(store_url, profile="production")) as own:
                return _request(Answers(services_of(Path("/nonexistent"), own, [])), ids, chance)

        ask = alone if mode == "neither" else pooled
        ask(random.Random(0))  # everything is loaded
        figure, took = _measured(ask, tracing=traced == "traced")
    name = "traced_kib" if traced == "traced" else "uss_kib"
    print(json.dumps({name: figure / 1024 / READERS, **({"request_ms": 1_000 * took} if traced == "uss" else {})}))


def _request(answers: Answers, ids: list[str], chance: random.Random) -> object:
    """Three of four read a job, those of low numbers more often; the others the first page of a user."""
    number = int(JOBS ** chance.random()) - 1
    return answers.job(ids[number]) if chance.random() < 0.75 else answers.jobs(f"user{number % USERS}", None, PAGE)


def _measured(ask: Ask, *, tracing: bool) -> tuple[float, float]:
    """Bytes that the process has grown by at most, and the median of a request's seconds."""
    begin, took, over = threading.Barrier(READERS + 1), list[float](), threading.Event()

    def read(number: int) -> None:
        chance = random.Random(number)
        begin.wait()
        over.wait(PAUSE_S * chance.random())
        for _ in range(REQUESTS):
            begun = time.perf_counter()
            ask(chance)
            took.append(time.perf_counter() - begun)
            over.wait(PAUSE_S)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    gc.collect()
    process, most = psutil.Process(), 0
    before = process.memory_full_info().uss
    if tracing:
        tracemalloc.start()
    begin.wait()
    while any(reader.is_alive() for reader in readers):
        if not tracing:
            most = max(most, process.memory_full_info().uss)
        time.sleep(LOOK_S)
    grown = tracemalloc.get_traced_memory()[1] if tracing else most - before
    return float(grown), median(took)


if __name__ == "__main__":
    one(*sys.argv[1:])
