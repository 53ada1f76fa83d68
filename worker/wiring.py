"""Builds what a process works with, once, after fork; the only place that knows which implementation is real."""

from __future__ import annotations

import gc
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from worker import answers, logs, pipeline
from worker.admission import guard
from worker.coordination.cache.redis import redis_cache
from worker.coordination.redis import RedisCoordinator
from worker.engines.file import Defaults
from worker.engines.live import LiveEngines
from worker.engines.registry import build_engines
from worker.failpoints import Failpoints
from worker.jobs.errors import Transient
from worker.limits import CACHE_SHARED_BYTES
from worker.maintenance.stand_in import StandIn
from worker.metrics import Metrics
from worker.notify.stream import StreamNotifier
from worker.pools import POOLS
from worker.ports import SWEEPER, Cache, Coordinator, Engine, FixedPool, JobStore, NoCache, Pool, Services, Step
from worker.reads import Forgetting
from worker.settings import Settings, SettingsError
from worker.store import open_archive, open_store
from worker.store.advisor import Advisor
from worker.store.announcing import announcing
from worker.store.batching import BatchingStore
from worker.store.held import Holding
from worker.store.lane import Bounds
from worker.supervision.supervisor import Supervisor
from worker.tiers import LiveTiers

log = logs.get(__name__)


class WallClock:
    """The machine's wall clock."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()


class TaskNudger:
    """Nudges by a Celery message, at most one a step and 5 s; a message that cannot be sent is left to the sweep.

    Args:
        send: sends a task by its name.
    """

    sends_tasks = True

    def __init__(self, coordinator: Coordinator, send: Callable[[str], object], metrics: Metrics) -> None:
        self._coordinator = coordinator
        self._send = send
        self._metrics = metrics

    def nudge(self, step: Step) -> None:
        """Send a nudge unless one is pending; never raises for a broker that is away."""
        try:
            if not self._coordinator.may_nudge(step):
                self._metrics.nudges.labels(step, "pending").inc()
                return
            self._send(f"haul.{step}")
            self._metrics.nudges.labels(step, "sent").inc()
        except Transient as error:
            self._metrics.nudges.labels(step, "lost").inc()
            log.info("a nudge is lost; the sweep finds the work", step=str(step), error=str(error))


class WakeNudger:
    """Nudges by waking a supervisor's sweeper, which finds what waits."""

    sends_tasks = False

    def __init__(self, coordinator: Coordinator, metrics: Metrics) -> None:
        self._coordinator = coordinator
        self._metrics = metrics

    def nudge(self, step: Step) -> None:
        """Wake one sweeper; never raises for a Redis that is away."""
        try:
            self._coordinator.wake(SWEEPER)
            self._metrics.nudges.labels(step, "sent").inc()
        except Transient as error:
            self._metrics.nudges.labels(step, "lost").inc()
            log.info("a nudge is lost; the next sweep finds the work", step=str(step), error=str(error))


def build(settings: Settings, send: Callable[[str], object] | None = None) -> Services:
    """Connect everything the settings name; nothing is asked of any service yet but the store, which is opened.

    Args:
        settings: with real addresses (`Settings.connected`).
        send: sends a Celery task by name and raises `Transient` when it cannot. A process that only opens doors has none:
            it wakes a supervisor, whose sweep sends the messages, and need not load Celery.

    Raises:
        SettingsError: an address is wrong.
    """
    metrics = Metrics()
    coordinator = RedisCoordinator(settings.redis_address, prefix=settings.key_prefix, max_connections=POOLS[settings.profile].redis)
    metrics.pool_connections.labels("redis").set_function(lambda: coordinator.connections()[0])
    metrics.pool_used.labels("redis").set_function(lambda: coordinator.connections()[1])
    try:
        failpoints = Failpoints(settings.failpoint)
    except ValueError as error:
        raise SettingsError(f"HAUL_FAILPOINT: {error}") from None
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    advisor = Advisor(partial(coordinator.put_advice, owner), metrics)
    opened = open_store(settings.store_address, profile=settings.profile, metrics=metrics, advisor=advisor)
    cache = build_cache(settings, metrics)
    items = settings.batch_items
    batching = BatchingStore(opened, metrics, bounds=Bounds(batch_items=items), holding=Holding(rows=items))
    store = announcing(batching, Forgetting(cache))
    gc.freeze()  # what is loaded stays: without this each full collection walks over all of it, a sixth of an admission's time
    engines, pool = _engines(settings, store)
    services = Services(
        settings=settings,
        store=store,
        coordinator=coordinator,
        engines=engines,
        nudger=TaskNudger(coordinator, send, metrics) if send else WakeNudger(coordinator, metrics),
        notifier=StreamNotifier(coordinator),
        clock=WallClock(),
        metrics=metrics,
        failpoints=failpoints,
        owner=owner,
        tiers=LiveTiers(settings.tiers, store),
        pool=pool,
        cache=cache,
        archive=open_archive(settings.store_address, settings.profile),
    )
    return replace(services, again=answers.again(services))


def build_cache(settings: Settings, metrics: Metrics) -> Cache:
    """What reads that repeat are kept in; nothing is connected yet.

    Raises:
        SettingsError: its address is wrong.
    """
    if not settings.cache_bytes:
        return NoCache()
    own = settings.cache_url.get_secret_value()
    here, shared = settings.cache_bytes, 0 if own else CACHE_SHARED_BYTES
    try:
        cache = redis_cache(own or settings.redis_address, prefix=settings.key_prefix, bytes_max=here, shared_bytes_max=shared)
    except SettingsError as error:
        raise SettingsError(str(error).replace("HAUL_REDIS_URL", "HAUL_CACHE_URL")) from None
    metrics.watch_cache(cache.figures)
    return cache


def _engines(settings: Settings, store: JobStore) -> tuple[Mapping[str, Engine], Pool]:
    if settings.engines_file is None:
        per_host = settings.connections_per_host
        addresses = settings.engine_addresses
        return build_engines(addresses, directory=volume(settings), slots=settings.slots, connections=per_host), FixedPool()
    live = LiveEngines(settings.engines_file, engine_defaults(settings), store)
    return live, live


def engine_defaults(settings: Settings) -> Defaults:
    """What addresses of engines leave open."""
    return Defaults(volume(settings), settings.slots, settings.data_dir, settings.connections_per_host)


def build_supervisor(services: Services, look: Callable[[], object] | None = None) -> Supervisor:
    """The loops of a supervisor over these services.

    Args:
        look: has the clock looked at, and may raise `Transient`; called while no beat does that.

    Raises:
        SettingsError: it is to run guarded engines only, and one is not proved to be.
    """
    sweep: Callable[[Services], object] = pipeline.sweep
    if look is not None:
        sweep = partial(_sweep_and_stand_in, StandIn(services.coordinator, look))
    if services.settings.egress != "strict":
        return Supervisor(services, sweep)
    proofs = guard.Proofs(services.settings)
    guard.require(services, proofs)
    return Supervisor(services, sweep, proofs.unproved)


def _sweep_and_stand_in(beat: StandIn, services: Services) -> object:
    found = pipeline.sweep(services)
    beat.stand_in()
    return found


def volume(settings: Settings) -> Path:
    """Where engines without a `dir` of their own put what they download."""
    return settings.data_dir / "downloads"
