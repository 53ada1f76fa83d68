"""The services behind the doors: a real store and a real Valkey; steps run when a nudge or the sweeper would run them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from worker import answers, pipeline
from worker.coordination.redis import RedisCoordinator
from worker.failpoints import Failpoints
from worker.jobs.errors import Rejected, Transient
from worker.jobs.model import Job, SourceKind
from worker.jobs.requests import parse
from worker.metrics import Metrics
from worker.notify.stream import StreamNotifier
from worker.ports import SWEEPER, EngineSnapshot, Features, Services, Step
from worker.reads import Forgetting
from worker.settings import load
from worker.store import open_store
from worker.store.announcing import announcing
from worker.wiring import build_cache

DEADLINE_S = 10.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of the condition within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} within {DEADLINE_S:g} s"
        time.sleep(0.005)
    return value


@dataclass
class NamedEngine:
    """An engine the doors know of and never ask."""

    name: str = "aria2"
    slots: int = 4
    weight: int = 1
    directory: str = "/nowhere"
    features: Features = field(default_factory=lambda: Features(kinds=frozenset(SourceKind)))
    rpc_timeout_s: float = 10.0

    def close(self) -> None:
        pass


class Nudges:
    """Remembers which steps were nudged."""

    sends_tasks = False

    def __init__(self) -> None:
        self.sent: list[Step] = []

    def nudge(self, step: Step) -> None:
        self.sent.append(step)


class WallClock:
    def time(self) -> float:
        return time.time()


@contextlib.contextmanager
def services_on(redis_url: str, prefix: str, directory: Path, **settings: Any) -> Iterator[Services]:
    """Services of one process over this Redis and a store in this directory."""
    engine: Any = NamedEngine()
    rest: dict[str, Any] = {"probe": "never", "egress": "guarded", **settings}
    read = load(data_dir=directory, redis_url=redis_url, key_prefix=prefix, engines="fake://", **rest)
    metrics = Metrics()
    cache = build_cache(read, metrics)
    services = Services(
        settings=read,
        store=announcing(open_store(f"sqlite:///{directory / 'haul.db'}"), Forgetting(cache)),
        coordinator=RedisCoordinator(redis_url, prefix=prefix),
        engines={engine.name: engine},
        nudger=Nudges(),
        notifier=None,  # type: ignore[arg-type]
        clock=WallClock(),
        metrics=metrics,
        failpoints=Failpoints(),
        owner="test",
        cache=cache,
    )
    services = replace(services, notifier=StreamNotifier(services.coordinator), again=answers.again(services))
    try:
        yield services
    finally:
        services.close()


@contextlib.contextmanager
def steps_running(services: Services) -> Iterator[None]:
    """Does what the supervisor's sweeper and the workers do for the doors: intake when woken, then notify."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            with contextlib.suppress(Transient):
                services.coordinator.rest(SWEEPER, 0.2)
                pipeline.run(services, Step.INTAKE)
                pipeline.run(services, Step.NOTIFY)

    thread = threading.Thread(target=work, name="steps")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the steps end"


def snapshot(name: str = "aria2", error: str | None = None) -> EngineSnapshot:
    """What an engine's owner shares."""
    return EngineSnapshot(name, 4, ("http",), "/nowhere", 10**9, 7, 1, 0, time.time(), "owner", error)


def accepted(services: Services, uri: str | None = None, *, owner: bool = False, **spec: Any) -> Job:
    """A job of ann's, by the door for one."""
    [answer] = pipeline.accept(services, [parse({"user": "ann", **({} if uri is None else {"uri": uri}), **spec}, owner=owner)])
    if isinstance(answer, Rejected):
        raise answer
    return answer.job


def now(services: Services, job: Job) -> Job:
    """What is recorded of it."""
    return services.store.get([job.id])[job.id]


def sent(services: Services) -> list[Step]:
    """The steps that were nudged since it was asked last."""
    nudges: Any = services.nudger
    steps, nudges.sent = nudges.sent, []
    return list(steps)
