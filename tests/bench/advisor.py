"""What the advisor costs a read: the same reads of one MongoDB by clients with and without it, in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.contract.store_jobs import some_jobs
from tests.mongodb import own_database, running
from worker import doing
from worker.ports import JobStore
from worker.store import open_store
from worker.store.advisor import Advisor
from worker.store.advisor.tally import FOLLOW_ONE_IN, FOLLOWED_FIRST, LOOK_ONE_IN
from worker.store.mongo.watch import Watch

READS, CHUNK = 400, LOOK_ONE_IN * FOLLOW_ONE_IN


def advisor(directory: Path, rounds: int) -> dict[str, Any]:
    """Reads by id and of an engine's work: time with the advisor over time without, A B C A B C, where C is without again.

    Two clients of one server differ by more than the advisor takes, so its own work is measured by itself, too, as a share of the read.
    """
    with ExitStack() as stack:
        url = stack.enter_context(own_database(stack.enter_context(running(directory / "mongodb"))))
        stores = [open_store(url), open_store(url, advisor=Advisor()), open_store(url)]
        for store in stores:
            stack.enter_context(closing(store))
        jobs = some_jobs(50)
        stores[0].insert(jobs)
        kinds: dict[str, Callable[[JobStore], object]] = {
            "by_id": lambda store: store.get([jobs[7].id]),
            "needing_owner": lambda store: store.needing_owner("aria2", 100),
        }
        figures: dict[str, Any] = {}
        for name, read in kinds.items():
            plain, watched, again = _us(stores, read, max(1, rounds))
            figures |= {f"{name}_us": plain, name: watched / plain, f"{name}_bare_to_bare": again / plain}
        own = {"by_id": _own_us(1), "needing_owner": _own_us(len(stores[0].needing_owner("aria2", 100)))}
        share = {f"{name}_own_share": us / figures[f"{name}_us"] for name, us in own.items()}
        return {**figures, **{f"{name}_own_us": us for name, us in own.items()}, **share, "limit": 1.03, "load": os.getloadavg()[0]}


def _us(stores: list[JobStore], read: Callable[[JobStore], object], rounds: int) -> list[float]:
    """What nine of ten reads take longer than, of each store in turns: the work of others on the machine moves that least."""
    took: list[list[float]] = [[] for _ in stores]
    for _ in range(READS * rounds):
        for store, times in zip(stores, took, strict=True):
            with doing.at("bench"):
                begun = time.perf_counter()
                read(store)
                times.append(time.perf_counter() - begun)
    return [1e6 * sorted(times)[len(times) // 10] for times in took]


def _own_us(documents: int) -> float:
    """What the advisor takes of a read that brings so many documents, by itself: the median of stretches, each with one that it follows."""
    watch, command = Watch(Advisor()), {"find": "jobs", "filter": {"_id": {"$in": ["a" * 24]}}, "sort": None, "limit": 0, "comment": None}
    answer = [{"_id": "a" * 24, "events": [{"text": "queued", "type": "job.queued", "at": 1.0}] * 5, "source": "x" * 200}] * documents
    took = []
    with doing.at("bench"):
        for _ in range(2 * FOLLOWED_FIRST):
            watch.saw("find", command, 0.0, answer)
        for _ in range(READS // 4):
            begun = time.perf_counter()
            for _ in range(CHUNK):
                watch.saw("find", command, 0.0, answer)
            took.append((time.perf_counter() - begun) / CHUNK)
    return 1e6 * sorted(took)[len(took) // 2]
