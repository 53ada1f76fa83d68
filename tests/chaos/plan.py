"""The faults of a chaos run, drawn from its seed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.fleet import FAILOVER_S, PAIR, Fleet

#: Seconds between two faults, on average.
GAP_S = 1.5
#: Frozen for so long at most; supervisors also for longer than their lease.
FROZEN_S = 12.0
FROZEN_LONG_S = 40.0
HOLE_S = 12.0
#: An engine that is away is so for longer than its jobs wait for it, at least.
AWAY_S = (FAILOVER_S + 8.0, FAILOVER_S + 20.0)


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault.

    Attributes:
        gap_s: after the one before.
        kind: what is done.
        target: to whom.
        seconds: how long it lasts, if it does.
    """

    gap_s: float
    kind: str
    target: str
    seconds: float = 0.0


#: kind -> (weight, how long it lasts at most).
KINDS = {
    "kill -9": (40, 0.0),
    "restart": (12, 0.0),
    "freeze": (14, FROZEN_S),
    "cut": (14, 0.0),
    "black hole": (6, HOLE_S),
    "kill a child": (14, 0.0),
    "away": (4, AWAY_S[1]),
}
#: Supervisors and the store are rarer: after each death of an owner nobody looks after the engine for half a minute.
WEIGHTS = {
    "supervisor-1": 2,
    "supervisor-2": 2,
    "mongodb": 2,
    "beat": 1,
    "api": 3,
    "redis": 3,
    "aria2": 4,
    "aria2-2": 3,
    "qbittorrent": 3,
    "prefork": 4,
    "threads": 4,
}


def draw(chance: random.Random, count: int, members: list[str], proxies: list[str]) -> Iterator[Blow]:
    """So many faults, one after the other; in each run, however short, an engine is away for long."""
    kinds, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    some = {"kill a child": ["prefork"], "cut": proxies, "black hole": proxies, "away": list(PAIR)}
    for number in range(count):
        kind = "away" if number == count // 3 else chance.choices(kinds, weights)[0]
        targets = some.get(kind, members)
        target = chance.choices(targets, [WEIGHTS[name] for name in targets])[0]
        longest = KINDS[kind][1]
        if kind == "freeze" and target.startswith("supervisor"):
            longest = FROZEN_LONG_S
        shortest = AWAY_S[0] if kind == "away" else 0.5
        yield Blow(chance.expovariate(1 / GAP_S), kind, target, chance.uniform(shortest, longest) if longest else 0.0)


def strike(fleet: Fleet, blow: Blow) -> bool:
    """Do it; false when there was nobody to do it to."""
    blows: dict[str, Callable[[], bool]] = {
        "kill -9": lambda: fleet.kill(blow.target),
        "restart": lambda: fleet.kill(blow.target, signal.SIGTERM),
        "away": lambda: fleet.away(blow.target, blow.seconds),
        "freeze": lambda: fleet.freeze(blow.target, blow.seconds),
        "cut": lambda: fleet.proxies[blow.target].cut() > 0,
        "black hole": lambda: fleet.swallow(blow.target, blow.seconds),
        "kill a child": lambda: _kill_child(fleet.members[blow.target].pid),
    }
    return blows[blow.kind]()


def _kill_child(pid: int) -> bool:
    """One of the processes of a prefork worker; false when it has none at this moment."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
    except (OSError, IndexError):
        return False
    return True
