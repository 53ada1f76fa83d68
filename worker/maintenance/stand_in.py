"""Looks at the clock in beat's place while no beat does: any sweeper, once nobody has looked for a time.

A look is a message more, and the ledger of runs decides what comes of it, so a look too many does nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from worker.ports import Coordinator

#: A beat that lives has the clock looked at each minute.
MISSED_S = 90.0
LOOKED = "clock:looked"


def looked(coordinator: Coordinator) -> None:
    """Note that somebody looks at the clock now."""
    coordinator.claim(LOOKED, "looked", MISSED_S)


class StandIn:
    """Of one sweeper; it begins when it has waited for a beat for `MISSED_S` itself."""

    def __init__(self, coordinator: Coordinator, look: Callable[[], object], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._coordinator = coordinator
        self._look = look
        self._monotonic = monotonic
        self._since = monotonic()

    def stand_in(self) -> None:
        """Have the clock looked at when nobody has for so long; of all stand-ins one does, or rarely two.

        Raises:
            Transient: Redis does not answer.
        """
        if self._monotonic() - self._since < MISSED_S:
            return
        nobody = secrets.token_hex(8)
        if self._coordinator.claim(LOOKED, nobody, MISSED_S):
            self._coordinator.unclaim(LOOKED, nobody)
            looked(self._coordinator)  # in the name that a beat uses, too, so that it goes on from here when it is back
            self._look()
