"""A process of the model's world: a worker with a supervisor, whose every call may be its last."""

from __future__ import annotations

from enum import StrEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.faults.mortal import BROKER, ENGINE, REDIS, STORE, STREAM, Mortal, Points, Reached
from tests.machine import services_of
from worker import pipeline
from worker.coordination.fake import FakeCoordinator
from worker.ports import Step
from worker.supervision.owner import Owner
from worker.wiring import TaskNudger

if TYPE_CHECKING:
    from tests.faults.model import World

#: Nudges a process deals with in one round.
NUDGES_MAX = 12


class Move(StrEnum):
    """What a process, or the world around it, may do at any time."""

    TURN_A = "turn a"
    TURN_B = "turn b"
    INTAKE = "intake"
    ADMIT = "admit"
    FINISH = "finish"
    NOTIFY = "notify"
    SWEEP = "sweep"
    BEAT = "beat"
    NUDGED = "nudged"
    ROUND = "round"
    COMPLETE = "complete"
    CANCEL = "cancel"
    RETRY = "retry"


class Process(Mortal):
    """A worker with a supervisor: what it holds in memory dies with it."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self._world = world
        self.coordinator = Coordinator(clock=world.read, memory=world.redis.memory)
        self.coordinator.down = world.away
        coordinator: Any = Reached(self, REDIS, self.coordinator)
        engines = [Reached(self, ENGINE, engine) for engine in world.engines.values()]
        self.services = services_of(
            world.directory,
            Reached(self, STORE, world.store),
            engines,
            settings={"allow_networks": "127.0.0.0/8"},
            coordinator=coordinator,
            nudger=TaskNudger(coordinator, self._send, world.metrics),
            notifier=Reached(self, STREAM, world.outside),
            clock=SimpleNamespace(time=world.wall),
            metrics=world.metrics,
            failpoints=Points(self),
            owner=name,
        )
        self.owners = {engine.name: Owner(self.services, engine) for engine in engines}
        for owner in self.owners.values():
            owner._held._monotonic = world.read

    def _send(self, task: str) -> None:
        self.reach(BROKER, self._world.broker.append, Step(task.removeprefix("haul.")))

    def do(self, move: Move) -> None:
        """One step, as a task or a loop would do it."""
        if move in (Move.TURN_A, Move.TURN_B):
            self.owners[move[-1]]._turn()
        elif move is Move.SWEEP:
            pipeline.sweep(self.services)
        elif move is Move.BEAT:
            pipeline.sweep(self.services, rebuilding=True)
        elif move is Move.NUDGED:
            self._world.nudged(self)
        elif move is Move.ROUND:
            self._round()
        else:
            pipeline.run(self.services, Step(move))

    def _round(self) -> None:
        for owner in self.owners.values():
            owner._turn()
        pipeline.sweep(self.services)
        for _ in range(NUDGES_MAX):
            self._world.nudged(self)

    def stop(self) -> None:
        """End as on SIGTERM."""
        for owner in self.owners.values():
            owner._last_words()


class Coordinator(FakeCoordinator):
    """Nobody rests here."""

    def rest(self, loop: str, timeout_s: float) -> bool:
        return super().rest(loop, 0.0)
