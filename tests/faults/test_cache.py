"""The cache: races, and a Redis that dies under it."""

from __future__ import annotations

import bisect
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.faults.catalogue import fault
from tests.servers import redis_program
from worker.cli.servers import Server, free_port, start_valkey
from worker.coordination.cache.redis import redis_cache
from worker.coordination.cache.shared import CacheBounds
from worker.ports import Kind

PROCESSES = 8
#: `HAUL_TEST_CACHE_S=60` is the long form.
SECONDS = float(os.environ.get("HAUL_TEST_CACHE_S", "20"))
START_S = 60.0
CUT_EVERY_S = 2.0


@pytest.fixture(params=["valkey", "redis"])
def program(request: pytest.FixtureRequest) -> Path:
    return redis_program(request.param)


@contextmanager
def racers(command: Sequence[str], count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ready to begin together."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(number)], **pipes) for number in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def raced(processes: list[subprocess.Popen[str]], seconds: float, cut: Any) -> list[dict[str, Any]]:
    """Let all begin; what each wrote and read. `cut` is called now and then."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(CUT_EVERY_S)
        cut()
    return [json.loads(process.communicate(timeout=START_S)[0]) for process in processes]


def ages(answers: Sequence[dict[str, Any]], *, told: bool) -> list[float]:
    """Of every read, for how long a newer version had been written and invalidated (and Redis told) when it began; sorted."""
    written: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for answer in answers:
        for record, version, returned, told_at in answer["written"]:
            written[record].append((version, told_at if told else returned))
    since: dict[int, tuple[list[int], list[float]]] = {}
    for record, versions in written.items():
        versions.sort()
        ends, earliest = [], float("inf")
        for _, at in reversed(versions):  # from when on no version below this one may be read
            earliest = min(earliest, at)
            ends.append(earliest)
        since[record] = [version for version, _ in versions], ends[::-1]
    found = []
    for answer in answers:
        for record, version, begun in answer["read"]:
            versions, ends = since.get(record, ([], []))
            newer = bisect.bisect_right(versions, version)
            found.append(max(0.0, begun - ends[newer]) if newer < len(ends) else 0.0)
    return sorted(found)


@fault(
    "Writers and readers of the same records race in eight processes, and their subscriptions are cut",
    provoked="8 processes, each with a writer and two readers of 12 records that end in no run by their time, loads as long as "
    "the time between two writes, invalidation by key, tag and prefix, and CLIENT KILL TYPE pubsub every 2 s; 20 s, or HAUL_TEST_CACHE_S",
    holds="no read is older than a second after Redis was told of the write; a process never reads what is older than its own last write",
)
def test_no_read_is_older_than_the_bound_though_eight_processes_race(program: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "records").mkdir()
    cache, records = start_valkey(program, tmp_path / "cache"), start_valkey(program, tmp_path / "records")
    command = [sys.executable, "-m", "tests.faults.racer", cache.url, records.url, "race", str(SECONDS)]
    try:
        with racers(command, PROCESSES) as processes, closing(Redis.from_url(cache.url)) as raw:
            answers = raced(processes, SECONDS, lambda: raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))
    finally:
        cache.stop()
        records.stop()
    old, since_write = ages(answers, told=True), ages(answers, told=False)
    sums = {name: sum(answer[name] for answer in answers) for name in ("local", "shared", "misses", "lost", "waits")}
    writes = sum(len(answer["written"]) for answer in answers)
    p99, p999 = old[int(len(old) * 0.99)], old[int(len(old) * 0.999)]
    print(f"{writes} writes, {len(old)} reads, {sums}")
    print(f"age p99 {p99:.4f} s, p99.9 {p999:.4f} s, most {old[-1]:.4f} s; since the write returned {since_write[-1]:.4f} s")
    assert sum(answer["errors"] for answer in answers) == 0
    assert sum(answer["own_old"] for answer in answers) == 0
    assert old[-1] <= 1.0
    assert sums["local"] > 0
    assert sums["shared"] > 0
    assert sums["lost"] > 0, "loads were overtaken by invalidations, or nothing was tried"


@fault(
    "Redis is killed under the cache, and comes back",
    provoked="a Zipf trace of reads and writes by four threads; kill -9 of the server in its middle, and a new one on its data 3 s later",
    holds="no read fails or is older than its writer's last write, before, during and after; afterwards values come from the server again",
)
def test_a_redis_killed_under_the_cache_costs_no_read(program: Path, tmp_path: Path) -> None:
    port = free_port()
    server: Server = start_valkey(program, tmp_path, port=port, secret="s")
    cache = redis_cache(server.url, prefix="t", bytes_max=1 << 20, shared_bytes_max=1 << 22, bounds=CacheBounds())
    record, versions, errors, old = Kind("record", 3_600.0), defaultdict(int), [], []
    ending = threading.Event()

    def trace(seed: int) -> None:
        chance = random.Random(seed)
        while not ending.is_set():
            key = seed * 10_000 + min(int(chance.paretovariate(1.0)), 3_000)  # each thread has keys of its own
            try:
                if chance.random() < 0.05:
                    versions[key] += 1
                    cache.invalidate(keys=[(record, str(key))])
                if cache.get(record, str(key), lambda key=key: versions[key]) != versions[key]:
                    old.append(key)
            except Exception as error:
                errors.append(error)
            time.sleep(0.0005)

    threads = [threading.Thread(target=trace, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(3)
        server.process.kill()
        server.process.wait()
        time.sleep(3)
        server = start_valkey(program, tmp_path, port=port, secret="s")
        deadline = time.monotonic() + 20
        while not cache.stats().live:
            assert time.monotonic() < deadline, "it hears of the others again"
            time.sleep(0.05)
        shared = cache.stats().kinds["record"].shared
        cache.flush(10)
        with closing(redis_cache(server.url, prefix="t", bytes_max=1 << 20, shared_bytes_max=1 << 22)) as other:
            while cache.stats().kinds["record"].shared == shared and other.stats().shared_entries == 0:
                assert time.monotonic() < deadline, "values are kept on the server again"
                time.sleep(0.05)
        time.sleep(1)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
        print(f"{cache.stats().kinds['record']}, {len(errors)} errors, {len(old)} old")
        cache.close()
        server.stop()
    assert not errors
    assert not old
