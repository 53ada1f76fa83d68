"""Processes on one store, whose works go by a clock that a test moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.machine import services_of
from worker.jobs.errors import Transient
from worker.maintenance.past import result_of
from worker.maintenance.report import Report
from worker.maintenance.schedule import is_birth
from worker.maintenance.timetable import Timetable
from worker.ports import Run, Services
from worker.store.sqlite.store import SqliteStore

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
STEP = 20 * MINUTE


class Killed(BaseException):
    """The process is gone: nothing of it runs any more, no `finally` either, for the store takes nothing from it."""


@dataclass
class World:
    """The time, and what of the world is there."""

    now: float
    store_up: bool = True
    runs: int = 0
    #: What happens in the work that runs next.
    fate: Callable[[], None] = lambda: None


@dataclass
class Process:
    """One that looks and runs, with a wall clock of its own and a hand on the store that can be cut off."""

    world: World
    store: Any
    skew: float = 0.0
    alive: bool = True

    def time(self) -> float:
        return self.world.now + self.skew

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if not self.alive:
                raise Killed
            if not self.world.store_up:
                raise Transient("store", "is away")
            return getattr(self.store, name)(*args, **options)

        return call


@dataclass
class Stage:
    """Some processes on one store, and their timetable."""

    world: World
    store: SqliteStore
    directory: Path
    timetable: Timetable
    processes: list[tuple[Process, Services]] = field(default_factory=list)

    def process(self, skew: float = 0.0) -> tuple[Process, Services]:
        process = Process(self.world, self.store, skew)
        directory = self.directory / f"p{len(self.processes)}"
        directory.mkdir()
        services = replace(services_of(directory, self.store, []), store=process, clock=process, owner=f"p{len(self.processes)}")  # type: ignore[arg-type]
        self.processes.append((process, services))
        return self.processes[-1]

    def work(self, services: Services) -> Report:
        fate, self.world.fate = self.world.fate, lambda: None
        fate()
        services.clock.time()
        self.world.runs += 1
        return Report(True, "done")

    def turn(self, services: Services) -> None:
        """What a worker does in a minute."""
        for name in self.timetable.look(services):
            self.timetable.run_due(services, name)

    def lines(self, name: str = "night") -> list[Run]:
        return [line for line in self.store.runs(name, 10_000) if not is_birth(line.slot)][::-1]

    def results(self, name: str = "night") -> list[str]:
        return [result_of(line) for line in self.lines(name)]


Opens = Callable[..., Stage]


def dies(process: Process) -> Callable[[], None]:
    def fate() -> None:
        process.alive = False
        raise Killed

    return fate


def finds_a_service_away() -> None:
    raise Transient("redis", "is away")
