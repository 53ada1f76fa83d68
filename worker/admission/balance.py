"""Which of the engines that may take a job gets it; pure, and the same in every process that sees the same snapshots.

Nothing is remembered here. `round-robin` goes by the number of starts that Redis counts, `random` by hashes of the job and the
engines' names, the others by what the engines have. A weight of 2 stands for two engines.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from worker.jobs.model import Job
from worker.jobs.needs import expected

if TYPE_CHECKING:
    from worker.admission.decide import EngineView

#: A job takes so much time at least, whatever its size: small or unknown ones are spread by their number.
JOB_BYTES_MIN = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ask:
    """What a strategy knows of the job.

    Attributes:
        place: which start this is, counted over all processes.
        key: of the job and its attempt.
        size: bytes it is expected to have; None while unknown.
    """

    place: int
    key: str
    size: int | None = None


#: Of each engine a number: the least gets the job.
Strategy = Callable[[Sequence["EngineView"], Ask], Sequence[float]]


def round_robin(engines: Sequence[EngineView], ask: Ask) -> list[float]:
    """In turns: engine i is due at the times (n + 1/2) / weight, and the turn of a place is the place-th of all these times.

    The turns of the places before are not replayed: by their share of the place it is known what each has had, give or take
    as many turns as there are engines, and from there it is a few steps.
    """
    weights, names = [engine.weight for engine in engines], [engine.name for engine in engines]
    place, whole = ask.place % sum(weights), sum(weights)
    had = [max(0, place * weight // whole - len(weights)) for weight in weights]

    def next_turn() -> int:
        return min(range(len(weights)), key=lambda i: ((2 * had[i] + 1) / weights[i], names[i]))

    for _ in range(place - sum(had)):
        had[next_turn()] += 1
    mine = next_turn()
    return [float(i != mine) for i in range(len(weights))]


def least_loaded(engines: Sequence[EngineView], ask: Ask) -> list[float]:  # noqa: ARG001 - every strategy has this shape
    """The fewest jobs for its weight."""
    return [(engine.live + 1) / engine.weight for engine in engines]


def random(engines: Sequence[EngineView], ask: Ask) -> list[float]:
    """By rendezvous hashing: by chance for each job, and the same chance wherever it is asked.

    An engine that comes or goes moves only the jobs that it gets or had.
    """
    return [-math.log(_chance(f"{ask.key}:{engine.name}")) / engine.weight for engine in engines]


def capacity(engines: Sequence[EngineView], ask: Ask) -> list[float]:
    """Where it is complete first, at the pace that each engine showed lately, with what it still has to fetch.

    An engine that has not shown any counts as one like the others. One that failed lately, or whose disk the job would fill,
    counts as that much slower.
    """
    seen = [engine.pace for engine in engines if engine.pace]
    common = sum(seen) / len(seen) if seen else 1.0
    size = max(JOB_BYTES_MIN, ask.size or 0)

    def until_done(engine: EngineView) -> float:
        owed = max(engine.outstanding, engine.live * JOB_BYTES_MIN) + size
        fills = 0.0 if engine.available is None else min(1.0, size / max(1, engine.available))
        return owed / ((engine.pace or common) * engine.weight) * (1 + engine.level) * (1 + fills)

    return [until_done(engine) for engine in engines]


#: The words of HAUL_BALANCER.
STRATEGIES: Mapping[str, Strategy] = {
    "round-robin": round_robin,
    "least-loaded": least_loaded,
    "random": random,
    "capacity": capacity,
}


@dataclass(frozen=True, slots=True)
class Balance:
    """A strategy, and the place it is at.

    Attributes:
        place: how many starts there were before.
    """

    strategy: str = "round-robin"
    place: int = 0

    def moved_on(self) -> Balance:
        """After a start."""
        return replace(self, place=self.place + 1)

    @property
    def counts(self) -> bool:
        """Whether it has to be known how many starts there were."""
        return STRATEGIES[self.strategy] is round_robin


def choose(balance: Balance, job: Job, free: Sequence[EngineView]) -> EngineView:
    """One of these engines, which all may take the job now; of equals the first by name."""
    engines = sorted(free, key=lambda engine: engine.name)
    numbers = STRATEGIES[balance.strategy](engines, Ask(balance.place, f"{job.id}:{job.attempt}", expected(job)))
    return engines[min(range(len(engines)), key=numbers.__getitem__)]


def _chance(key: str) -> float:
    """Between 0 and 1, without both ends."""
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    return (number + 0.5) / 2**64
