"""What is asked of the services: short reads, and writes to scratch lines of the run ledger that are never mixed with jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count

from worker.jobs.errors import HaulError, Transient
from worker.jobs.states import TERMINAL
from worker.maintenance.baseline.api import Api
from worker.maintenance.baseline.figures import Figure
from worker.maintenance.baseline.rounds import Gauge, Probe, best, part
from worker.ports import Engine, Run, Services, Step

#: Lines of the ledger under this name are ours to write and to forget.
SCRATCH = "baseline.scratch"
BATCH = 50
#: The id of no job: ids are hexadecimal.
NOBODY = "baseline"
#: A task that has not begun by then waits for a worker that has better to do.
TASK_S = 2.0
TASK_POLL_S = 0.002
REQUESTS = 15


def api(client: Api | None, why: str) -> tuple[list[Probe], dict[str, Figure]]:
    """Requests to the API: the best, half, 19 of 20, and 99 of 100 of the times."""
    routes = ("health", "metrics", "jobs")
    if client is None:
        return [], {f"api.{route}.{share}_ms": Figure.none(why) for route in routes for share in ("best", "p50", "p95", "p99")}

    def probe(route: str, ask: Callable[[], float | None]) -> Probe:
        figures = {f"api.{route}.best_ms": best, f"api.{route}.p50_ms": part(0.5), f"api.{route}.p95_ms": part(0.95)}
        return Probe(ask, REQUESTS, figures, {f"api.{route}.p99_ms": part(0.99)})

    return [probe("health", client.health), probe("metrics", client.metrics), probe("jobs", client.jobs)], {}


class Scratch:
    """Writes to and reads of the store that leave nothing behind; a capture that was killed is tidied up after by the next one."""

    def __init__(self, services: Services) -> None:
        self._store, self._owner, self._numbers = services.store, services.owner, count()

    def probes(self) -> list[Probe]:
        """Reads and batches; the batch that is read is the one that was written in the same round."""
        return [
            Probe(self._read, 40, {"store.read_ms": best}),
            Probe(self._count, 20, {"store.count_ms": best}),
            Probe(self._write, 3, {"store.batch_write_ms": best}),
            Probe(self._read_batch, 30, {"store.batch_read_ms": best}),  # the first few find neither rows nor code in the caches
        ]

    def tidy(self) -> None:
        """Forget the scratch lines. Raises Transient."""
        self._store.drop_runs(SCRATCH, 0)

    def _read(self) -> None:
        self._store.get([NOBODY])

    def _count(self) -> float:
        return float(sum(self._store.counts().values()))

    def _write(self) -> None:
        now = time.time()
        text = "x" * 250
        self._store.keep_runs([Run(SCRATCH, f"{next(self._numbers)}", self._owner, now, now, True, {"text": text}) for _ in range(BATCH)])

    def _read_batch(self) -> None:
        if len(self._store.runs(SCRATCH, BATCH)) < BATCH:
            raise Transient("store", "the scratch lines are gone: another capture runs")


def redis(services: Services) -> tuple[list[Probe], list[Gauge]]:
    """Round trips to Redis, and what it says of itself."""
    coordinator = services.coordinator

    def facts() -> Mapping[str, float]:
        told = coordinator.facts()
        return {"redis.connections": float(told.connections), "redis.memory_bytes": float(told.used_bytes)}

    probes = [
        Probe(coordinator.ping, 20, {"redis.ping_ms": best}),
        Probe(lambda: float(len(coordinator.snapshots())), 10, {"redis.snapshots_ms": best}),
    ]
    return probes, [Gauge(("redis.connections", "redis.memory_bytes"), facts)]


def engines(services: Services) -> tuple[list[Probe], list[Gauge], dict[str, Figure]]:
    """One call to each engine about all that it has; one that its owner cannot reach is not waited for."""
    silent: dict[str, str | None] = {}
    with suppress(HaulError):
        silent = {name: seen.error for name, seen in services.coordinator.snapshots().items()}
    probes: list[Probe] = []
    gauges: list[Gauge] = []
    absent: dict[str, Figure] = {}
    for name, engine in list(services.engines.items()):
        names = f"engine.{name}.rpc_ms", f"engine.{name}.items"
        if fault := silent.get(name):
            absent |= {figure: Figure.none(f"its owner says: {fault}") for figure in names}
            continue
        items: list[float] = []
        probes.append(Probe(_polled(engine, items), 4, {names[0]: best}))
        gauges.append(Gauge((names[1],), _last(names[1], items)))
    return probes, gauges, absent


def queue(services: Services) -> list[Gauge]:
    """What waits, and the jobs there are."""
    coordinator, store = services.coordinator, services.store

    def waiting() -> Mapping[str, float]:
        return {
            "queue.waiting": float(coordinator.waiting_size()),
            "queue.intake": float(coordinator.intake_size()),
            "queue.parked": float(coordinator.parked_size()),
        }

    def jobs() -> Mapping[str, float]:
        counts = store.counts()
        live = sum(n for state, n in counts.items() if state not in TERMINAL)
        return {"queue.jobs": float(sum(counts.values())), "queue.live_jobs": float(live)}

    return [Gauge(("queue.waiting", "queue.intake", "queue.parked"), waiting), Gauge(("queue.jobs", "queue.live_jobs"), jobs)]


def task(services: Services) -> tuple[list[Probe], dict[str, Figure]]:
    """How long a task takes to begin: a nudge's flag is taken down by the step as it begins.

    The step is nudged once more afterwards, so that no nudge of others is lost to our looking at the flag.
    """
    if not services.nudger.sends_tasks:
        return [], {"queue.task_ms": Figure.none("measured by the clock alone: this process sends no tasks")}
    step, coordinator = Step.NOTIFY, services.coordinator

    def ask() -> None:
        services.nudger.nudge(step)
        until = time.monotonic() + TASK_S
        while not coordinator.may_nudge(step):
            if time.monotonic() > until:
                raise Transient("worker", f"no task began within {TASK_S:g} s")
            time.sleep(TASK_POLL_S)
        coordinator.looked(step)
        services.nudger.nudge(step)

    return [Probe(ask, 1, {"queue.task_ms": best})], {}


def cache(services: Services) -> dict[str, Figure]:
    """What is in the cache of this process, and what its reads found; once, for it only counts."""
    seen = services.cache.stats()
    reads = [(kind.local + kind.shared, kind.misses) for kind in seen.kinds.values()]
    found, missed = sum(hits for hits, _ in reads), sum(misses for _, misses in reads)
    values = {
        "cache.entries": seen.entries,
        "cache.bytes": seen.bytes,
        "cache.shared_entries": seen.shared_entries,
        "cache.shared_bytes": seen.shared_bytes,
        "cache.hit_ratio": found / (found + missed) if found + missed else None,
    }
    why = {"cache.hit_ratio": "this process read nothing through the cache"}
    return {
        name: Figure.none(why.get(name, "Redis does not tell")) if value is None else Figure(float(value), 0.0, 1)
        for name, value in values.items()
    }


def _polled(engine: Engine, items: list[float]) -> Callable[[], float]:
    def ask() -> float:
        items[:] = [float(len(engine.poll().items))]
        return items[0]

    return ask


def _last(name: str, items: list[float]) -> Callable[[], Mapping[str, float]]:
    return lambda: {name: items[0]} if items else {}
