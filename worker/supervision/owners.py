"""The owners of a supervisor, a thread each: they come and go with the engines of the process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from worker.ports import Engine, Services
from worker.supervision.owner import Owner
from worker.supervision.probation import Probation, Prove


@dataclass(frozen=True, slots=True)
class _Loop:
    """An owner at work; `engine` is what it was made for."""

    engine: Engine
    owner: Owner
    thread: threading.Thread


class Owners:
    """By engine. With `prove` each is looked after once it is proved to be guarded.

    `follow` is called by one thread; the rest by any, `retire` by a signal handler, too.
    """

    def __init__(self, services: Services, prove: Prove | None = None) -> None:
        self._services = services
        self._prove = prove
        self._loops: dict[str, _Loop] = {}
        self._retired = False

    def follow(self) -> None:
        """Start owners of new engines, and end those of engines that left or are reached at another address, whose next one waits for that.

        Two owners of one engine in a process would take each other's lease for their own.
        """
        engines = dict(self._services.engines.items())
        for name, loop in list(self._loops.items()):
            if engines.get(name) is not loop.engine:
                loop.owner.retire()
                if not loop.thread.is_alive():
                    self._loops = {other: kept for other, kept in self._loops.items() if other != name}
                    self._forget(name)
        for name in engines.keys() - self._loops.keys():
            if not self._retired:
                self._loops = {**self._loops, name: self._started(engines[name])}

    def retire(self) -> None:
        """Make each loop end after the turn it is in; returns at once."""
        self._retired = True
        for loop in self._loops.values():
            loop.owner.retire()

    def join(self, deadline: float) -> bool:
        """Wait until a time of the monotonic clock for all to end; true when they have."""
        loops = list(self._loops.values())
        for loop in loops:
            loop.owner.retire()  # one may have been started meanwhile
            loop.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(loop.thread.is_alive() for loop in loops)

    def names(self) -> Sequence[str]:
        """The engines that have an owner here."""
        return tuple(self._loops)

    def ages(self) -> dict[str, float]:
        """Seconds since each loop's last turn, by its name."""
        now = time.monotonic()
        return {f"engine-{name}": now - loop.owner.ticked_at for name, loop in self._loops.items()}

    def _started(self, engine: Engine) -> _Loop:
        owner = Owner(self._services, engine)
        thread = threading.Thread(target=self._run, args=(owner, engine), name=f"engine-{engine.name}", daemon=True)
        thread.start()
        return _Loop(engine, owner, thread)

    def _run(self, owner: Owner, engine: Engine) -> None:
        if self._prove is None or Probation(self._services, engine, self._prove).passed(owner):
            owner.run()

    def _forget(self, name: str) -> None:
        """Take an engine that left out of the metrics."""
        if name not in self._services.engines:
            metrics = self._services.metrics
            for gauge in (metrics.engine_up, metrics.engine_items, metrics.engine_speed, metrics.engine_free):
                with contextlib.suppress(KeyError):
                    gauge.remove(name)
