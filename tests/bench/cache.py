"""Reads through the cache: a hit against a GET of Redis, the hit rate of a Zipf trace, and reads of the API with and without it."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from redis import Redis

from tests.servers import redis_program
from worker.cli.servers import start_valkey
from worker.coordination.cache.layered import LayeredCache
from worker.coordination.cache.redis import redis_cache
from worker.jobs.model import Job, Request, Source, SourceKind, new_job
from worker.jobs.view import job_view
from worker.limits import CACHE_BYTES, CACHE_SHARED_BYTES
from worker.ports import JobFilter, Kind
from worker.reads import FRESH_S, Reads
from worker.store.sqlite.store import SqliteStore

CALLS = 2_000
KEYS, READS, WRITES = 100_000, 1_000_000, 0.05
JOBS, PAGE = 2_000, 50
MIB = 1 << 20
#: Kept in this process alone, so that the trace counts what 200 MB hold and not what Redis adds.
HERE = Kind("here", 3_600.0, shared=False)
BOTH = Kind("both", 3_600.0)


def cache(directory: Path, rounds: int) -> dict[str, Any]:
    """A hit against GET (at least 20 times faster), the trace's hit rate (at least 0.9), cached reads against the store's."""
    server = start_valkey(redis_program(), directory)
    kept = redis_cache(server.url, prefix="bench", bytes_max=CACHE_BYTES, shared_bytes_max=CACHE_SHARED_BYTES)
    try:
        _live(kept)
        figures = {**_against_get(kept, server.url, rounds), **_against_store(kept, directory, rounds)}
        return {**figures, **_trace(kept), "load": os.getloadavg()[0]}
    finally:
        kept.close()
        server.stop()


def _job(number: int) -> Job:
    source = Source(SourceKind.HTTP, f"https://host.example/files/{number}/a-name-of-usual-length.iso")
    return new_job(Request(source, f"user{number % 100}", key=f"chat7:{number}"), 1_700_000_000.0)


def _live(kept: LayeredCache) -> None:
    kept.get(HERE, "", lambda: 1)
    deadline = time.monotonic() + 10
    while not kept.stats().live and time.monotonic() < deadline:
        time.sleep(0.01)


def _against_get(kept: LayeredCache, url: str, rounds: int) -> dict[str, Any]:
    """Call by call in turn, the same JSON, as bytes."""
    value = job_view(_job(1))
    redis = Redis.from_url(url)
    redis.set("plain", orjson.dumps(value))
    hit, get, shared = [], [], []
    calls: Sequence[tuple[Callable[[], Any], list[float]]] = [
        (lambda: kept.text(BOTH, "k", lambda: value), hit),
        (lambda: redis.get("plain"), get),
    ]
    for _ in range(CALLS * rounds):
        for call, took in calls:
            begun = time.perf_counter()
            call()
            took.append(time.perf_counter() - begun)
    for _ in range(CALLS):
        with kept._lock:
            kept._local.clear()
        begun = time.perf_counter()
        kept.text(BOTH, "k", lambda: value)
        shared.append(time.perf_counter() - begun)
    redis.close()
    usual = {"hit": median(hit), "get": median(get), "shared": median(shared)}
    return {
        "hit_us": usual["hit"] * 1e6,
        "redis_get_us": usual["get"] * 1e6,
        "hit_over_get": usual["get"] / usual["hit"],
        "limit_hit_over_get": 20,
        "shared_hit_us": usual["shared"] * 1e6,
    }


def _against_store(kept: LayeredCache, directory: Path, rounds: int) -> dict[str, Any]:
    """What the API does for a job and for a page of them, with the cache and without, in turn; misses and their share included."""
    store, jobs = SqliteStore(directory / "bench.db"), [_job(number) for number in range(JOBS)]
    store.insert(jobs)
    reads, chance = Reads(kept), random.Random(1)
    named = chance.choices([job.id for job in jobs], cum_weights=_zipf(JOBS), k=CALLS * rounds)

    def one(id: str) -> Any:
        return job_view(store.get([id])[id])

    def page(user: str) -> Any:
        return [job_view(job) for job in store.page(JobFilter(user=user), PAGE).jobs]

    took: dict[str, list[float]] = {"job": [], "job_cached": [], "page": [], "page_cached": []}
    for id in named:
        user = f"user{int(id, 16) % 100}"
        for name, call in {
            "job": lambda id=id: orjson.dumps(one(id)),
            "job_cached": lambda id=id: reads.job(id, lambda: one(id)),
            "page": lambda user=user: orjson.dumps(page(user)),
            "page_cached": lambda user=user: reads.jobs(user, (PAGE,), lambda: page(user)),
        }.items():
            begun = time.perf_counter()
            call()
            took[name].append(time.perf_counter() - begun)
    store.close()
    means = {name: sum(figures) / len(figures) for name, figures in took.items()}
    return {
        "sqlite_job_us": means["job"] * 1e6,
        "cached_job_us": means["job_cached"] * 1e6,
        "job_ratio": means["job"] / means["job_cached"],
        "job_ratio_of_a_hit": median(took["job"]) / median(took["job_cached"]),
        "sqlite_page_us": means["page"] * 1e6,
        "page_ratio": means["page"] / means["page_cached"],
        "page_ratio_of_a_hit": median(took["page"]) / median(took["page_cached"]),
        "fresh_s": FRESH_S,
    }


def _trace(kept: LayeredCache) -> dict[str, Any]:
    """Zipf with exponent 1: from nothing, and then once every key has been read."""
    value, names, chance = job_view(_job(1)), [f"{number:024d}" for number in range(KEYS)], random.Random(2)
    kept.clear()
    gc.collect()
    before = _resident()
    weights = _zipf(KEYS)
    cold = _hit_rate(kept, chance.choices(names, cum_weights=weights, k=READS // 2), value, chance)
    for name in names:
        kept.get(HERE, name, lambda: value)
    warm = _hit_rate(kept, chance.choices(names, cum_weights=weights, k=READS // 2), value, chance)
    stats = kept.stats()
    return {
        "keys": KEYS,
        "hit_rate_from_nothing": cold,
        "hit_rate": warm,
        "limit_hit_rate": 0.9,
        "entries": stats.entries,
        "counted_mib": stats.bytes / MIB,
        "grown_mib": (_resident() - before) / MIB,
    }


def _hit_rate(kept: LayeredCache, trace: Sequence[str], value: Any, chance: random.Random) -> float:
    before = kept.stats().kinds.get("here")
    had = (before.local, before.misses) if before else (0, 0)
    for name in trace:
        if chance.random() < WRITES:
            kept.invalidate(keys=[(HERE, name)])
        else:
            kept.get(HERE, name, lambda: value)
    after = kept.stats().kinds["here"]
    hits, misses = after.local - had[0], after.misses - had[1]
    return hits / (hits + misses)


def _zipf(count: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
