"""A step of a long work is tried again while what it fails of may pass: a restore of half an hour does not end with one connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from worker.jobs.errors import Transient
from worker.ports import Hopeless, Wait

T = TypeVar("T")

#: From the first failure of a step on. An election takes some twelve seconds, the restart of a server with recovery a minute or two.
PATIENCE_S = 300.0
#: Before the second try; it doubles up to the other.
PAUSE_S, PAUSE_S_MAX = 0.5, 10.0
#: No sleep is longer, so that a Ctrl-C and the keeping of leases do not wait for it.
NAP_S = 0.25


class Patience:
    """For the steps of one work, in one thread. Who gave up once tries everything that is left, such as clearing up, once only.

    Args:
        wait: is called in every pause with what is waited for.
        for_s: no try of a step begins later after its first failure; None is `PATIENCE_S`.
    """

    def __init__(
        self,
        wait: Wait,
        for_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wait, self._for_s = wait, PATIENCE_S if for_s is None else for_s
        self._monotonic, self._sleep = monotonic, sleep
        self._given_up = False

    def tried(self, step: Callable[[], T]) -> T:
        """What `step` returns, which has to be harmless to repeat.

        Raises:
            Hopeless: the first time.
            Transient: what the last try said, once time is up.
        """
        pause, failed_at = PAUSE_S, None
        while True:
            try:
                return step()
            except Transient as error:
                now = self._monotonic()
                failed_at = now if failed_at is None else failed_at
                if isinstance(error, Hopeless) or self._given_up:
                    raise
                if now + pause - failed_at > self._for_s:
                    self._given_up = True
                    raise Transient(error.service, f"{error.detail}; tried again for {now - failed_at:.0f} s") from None
                self._rest(pause, f"{error.detail}, trying again")
            pause = min(2 * pause, PAUSE_S_MAX)

    def _rest(self, pause: float, why: str) -> None:
        until = self._monotonic() + pause
        while (left := until - self._monotonic()) > 0:
            self._wait(why)
            self._sleep(min(left, NAP_S))
