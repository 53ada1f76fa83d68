"""One capture: everything a baseline knows of a running system, in about ten seconds and a third of one core at most."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from worker.jobs.errors import Conflict, HaulError, Transient
from worker.maintenance.baseline import machine, probes, suite
from worker.maintenance.baseline.api import Api, address
from worker.maintenance.baseline.document import CLOCK, Capture, id_of
from worker.maintenance.baseline.figures import BUSY, DISK, IDLE, Figure
from worker.maintenance.baseline.rounds import ROUNDS, Gauge, Probe, Progress, best, measured, part
from worker.ports import Services
from worker.stack import Stack

#: Longer than a capture takes; what a killed one keeps others waiting for.
CLAIM, CLAIM_S = "baseline", 30.0
NO_STACK = "no stack runs on this data directory, and only the clock measures in a worker"
NO_API = "there is no API: the stack runs none, and HAUL_API_URL is not set"


def capture(
    services: Services, *, source: str, tests: Path | None = None, progress: Progress | None = None, rounds: int = ROUNDS
) -> Capture:
    """Measure; nothing is kept yet, and nothing is left in the store.

    Args:
        source: `CLOCK` or `HAND`.
        tests: a result of the test suite, JUnit XML.
        progress: told of rounds done, of how many.
        rounds: samples of each figure; fewer for a hurried look.

    Raises:
        Rejected: `tests` cannot be read.
        Conflict: another capture runs; two would measure each other.
    """
    given = suite.read(tests) if tests else suite.absent()
    owner = f"{services.owner}:{time.monotonic_ns()}"
    try:
        if not services.coordinator.claim(CLAIM, owner, CLAIM_S):
            raise Conflict("baseline", "another capture is under way", fix="try again in half a minute", retry_after_s=30.0)
    except Transient:
        pass  # without Redis nobody can tell; its figures will be absent
    try:
        return _captured(services, source, given, progress, rounds)
    finally:
        with suppress(HaulError):
            services.coordinator.unclaim(CLAIM, owner)


def _captured(services: Services, source: str, given: Mapping[str, Figure], progress: Progress | None, rounds: int) -> Capture:
    at, begun, cpu = services.clock.time(), time.perf_counter(), time.thread_time()
    scratch = probes.Scratch(services)
    plan = _plan(services, source, scratch)
    try:
        with suppress(HaulError):
            scratch.tidy()  # of one that was killed
        figures = measured(plan.probes, plan.gauges, after_round=scratch.tidy, progress=progress, rounds=rounds)
    finally:
        with suppress(HaulError):
            scratch.tidy()
        if plan.client:
            plan.client.close()
    figures |= plan.absent | probes.cache(services) | dict(given)
    figures["capture.cpu_ms"] = Figure(1000 * (time.thread_time() - cpu), 0.0, 1)
    return Capture(id_of(at), at, source, time.perf_counter() - begun, _about(services), _versions(services), figures)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is timed, what is read, and what cannot be had; the client is closed afterwards."""

    probes: Sequence[Probe]
    gauges: Sequence[Gauge]
    absent: dict[str, Figure]
    client: Api | None


def _plan(services: Services, source: str, scratch: probes.Scratch) -> _Plan:
    settings = services.settings
    url, keys = address(settings), settings.api_keys
    client = Api(url, keys[0].get_secret_value() if keys else None) if url else None
    asked, no_api = probes.api(client, NO_API)
    trips, told = probes.redis(services)
    polls, items, silent = probes.engines(services)
    begins, no_task = probes.task(services)
    own = [
        Probe(machine.yardstick, 10, {IDLE: best, BUSY: part(0.5)}),
        Probe(machine.disk_sync(settings.data_dir), 1, {DISK: best}),
    ]
    stack = _stack(services, source)
    gauges = [Gauge(machine.GAUGES, machine.Meter(settings.data_dir).read), *told, *probes.queue(services), *items]
    gauges += [Gauge(machine.PROCESSES, machine.processes(stack))] if stack else []
    no_stack = {} if stack else {name: Figure.none(NO_STACK) for name in machine.PROCESSES}
    timed = [*own, *trips, *scratch.probes(), *asked, *begins, *polls]
    return _Plan(timed, gauges, no_api | silent | no_task | no_stack, client)


def _stack(services: Services, source: str) -> list[int]:
    """The processes of the system: of the stack on the data directory, else of the worker that measures."""
    if stack := Stack.load(services.settings.data_dir):
        return [stack.pid, *stack.children.values()]
    return [os.getpid()] if source == CLOCK else []


def _about(services: Services) -> dict[str, Any]:
    store = "sqlite" if services.settings.store_address.startswith("sqlite:") else "mongodb"
    return {**machine.about(), "store": store}


def _versions(services: Services) -> dict[str, str | None]:
    found: dict[str, str | None] = {"haul": None, "python": platform.python_version(), "kernel": platform.release()}
    with suppress(PackageNotFoundError):
        found["haul"] = version("haul")
    for name, ask in (("store", services.store.version), ("redis", lambda: services.coordinator.facts().version)):
        found[name] = None
        with suppress(HaulError):
            found[name] = ask()
    with suppress(HaulError):
        found |= {f"engine {name}": seen.version for name, seen in services.coordinator.snapshots().items()}
    return found
