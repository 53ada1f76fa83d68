"""What an admission costs: the processor time of this process, over a real store and a real Valkey."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.machine import services_of
from tests.servers import redis_program
from worker.admission.admit import admit
from worker.cli.servers import start_valkey
from worker.coordination.redis import RedisCoordinator
from worker.engines.fake import FakeEngine
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.tiers import FixedTiers, Tier
from worker.limits import ADMIT_BATCH
from worker.pipeline import accept
from worker.ports import EngineSnapshot, Services
from worker.store.sqlite.store import SqliteStore

JOBS, USERS, TIERS = 10_000, 100, ("free", "premium", "vip", "admin")
BATCH = 500
#: What is measured is the admission, not the wait for start tokens.
UNBOUNDED = FixedTiers({name: Tier(name, rate=None, weight=2**n) for n, name in enumerate(TIERS)})


def admission(directory: Path, rounds: int) -> dict[str, Any]:
    """10,000 waiting jobs of 100 users: the time to admit all of them, and that of one look at them while no slot is free."""
    (directory / "redis").mkdir()
    gc.freeze()  # as `wiring.build` does
    server = start_valkey(redis_program(), directory / "redis")
    whole: list[float] = []
    looks, own, stored = [], [], []
    try:
        for number in range(rounds):
            redis = RedisCoordinator(server.url, prefix=f"bench{number}")
            store = SqliteStore(directory / f"{number}.db")
            with closing(redis), closing(store):
                at_store, at_redis = Timed(store), Timed(redis)
                parts: dict[str, Any] = {"coordinator": at_redis, "tiers": UNBOUNDED}
                services = services_of(directory, at_store, [FakeEngine(str(directory), slots=JOBS)], **parts)  # type: ignore[arg-type]
                _ask(services)
                _seen(services, 0)
                looks.append(_cpu_s(services, 0))
                _seen(services, JOBS)
                at_store.cpu_s = at_redis.cpu_s = 0.0
                whole.append(_cpu_s(services, JOBS))
                stored.append(at_store.cpu_s)
                own.append(whole[-1] - at_store.cpu_s - at_redis.cpu_s)
    finally:
        server.stop()
    return {
        "jobs": JOBS,
        "cpu_s": min(whole),
        "cpu_s_by_round": whole,
        "of_it_own_s": min(own),
        "of_it_store_s": min(stored),
        "one_look_s": min(looks),
        "limit_cpu_s": 1.0,
    }


class Timed:
    """A service that counts the processor time of the calls to it."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.cpu_s = 0.0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._inner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.cpu_s += time.process_time() - begun

        return timed


def _ask(services: Services) -> None:
    for first in range(0, JOBS, BATCH):
        source = Source(SourceKind.HTTP, "http://host/x")
        numbers = range(first, first + BATCH)
        accept(services, [Request(source, f"user {n % USERS}", f"{n}", tier=TIERS[n % USERS % len(TIERS)]) for n in numbers])


def _seen(services: Services, slots: int) -> None:
    """The engine's owner has just seen it; with no slots it is away, and nothing starts."""
    error = None if slots else "it is away"
    services.coordinator.put_snapshot(EngineSnapshot("fake", slots, ("http",), "/x", 10**12, 0, 0, 0, time.time(), "o", error))


def _cpu_s(services: Services, slots: int) -> float:
    used, admitted = 0.0, 0
    while True:
        _seen(services, slots)  # a slow machine takes longer than a snapshot lives
        begun = time.process_time()
        done = admit(services, ADMIT_BATCH)
        used += time.process_time() - begun
        admitted += done
        if not done:
            assert admitted == slots, f"{admitted} of {slots} were admitted"
            return used
