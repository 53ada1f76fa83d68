"""Engines that are given nothing new: said by an operator, kept with the records, seen by every admission."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from worker import logs
from worker.jobs.errors import NotFound, Transient
from worker.jobs.states import IN_SLOT, State
from worker.ports import Drain, EngineSnapshot, Services, Step

#: What still needs an engine before it can be stopped; what seeds is left, and what is paused goes on elsewhere or later.
RUNNING = IN_SLOT | {State.FINISHING}

log = logs.get(__name__)


def away_on_purpose(services: Services) -> frozenset[str]:
    """Engines that may be away without anything being wrong; none when the store does not answer."""
    try:
        return frozenset(services.drains())
    except Transient:
        return frozenset()


def drain(services: Services, name: str, *, move: bool = False) -> None:
    """Give an engine nothing new from now on, until `undrain`; idempotent, the last word counts.

    Args:
        move: what it downloads is stopped and queued again for other engines, which fetch it from the start. What no other
            engine can fetch, and what it seeds, stays.

    Raises:
        NotFound: there is no such engine.
        Transient: the store does not answer.
    """
    known = services.store.drains()
    _check(name, services.engines)
    if name not in known or known[name].move != move:
        since = known[name].since if name in known else services.clock.time()
        services.store.drain(name, Drain(move, since))
    _tell(services, name)


def undrain(services: Services, name: str) -> None:
    """Give an engine work again; idempotent. Raises NotFound and Transient as `drain` does."""
    _check(name, {*services.engines, *services.store.drains()})
    services.store.undrain(name)
    _tell(services, name)


def shown(
    services: Services, name: str, held: Mapping[State, int], snapshot: EngineSnapshot | None, drains: Mapping[str, Drain]
) -> dict[str, Any]:
    """An engine's state and what it holds, as JSON.

    Args:
        held: its jobs by state.
        drains: those in force.
    """
    running = sum(held.get(state, 0) for state in RUNNING)
    if name in drains:
        state = "draining" if running else "drained"
    else:
        state = "up" if snapshot is not None and snapshot.error is None else "away"
    return {
        "state": state,
        "move": name in drains and drains[name].move,
        "leaving": name in services.pool.leaving,
        "weight": services.engines[name].weight,
        "running": running,
        "waiting": snapshot.waiting if snapshot else None,
        "finishing": held.get(State.FINISHING, 0),
        "paused": held.get(State.PAUSED, 0),
        "seeding": held.get(State.DONE, 0),
        "version": snapshot.version if snapshot else None,
    }


def _check(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise NotFound("engine", f"there is no engine {name!r}", fix=f"one of: {', '.join(sorted(known)) or 'none'}")


def _tell(services: Services, name: str) -> None:
    """Have the engine's owner and admission look now; both look by themselves within seconds."""
    try:
        services.coordinator.wake(name)
    except Transient as error:
        log.info("the engine's owner looks by itself", engine=name, error=str(error))
    services.nudger.nudge(Step.ADMIT)
