"""Waiting to write while other processes do."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable

import pytest

from worker.store.sqlite.turn import wait_for_turn

BUSY, LOCKED = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY


class Others:
    """Other processes that write one after the other and leave a gap between two, on a clock that only waiting moves."""

    def __init__(self, busy_s: float, gap_s: float, code: int = BUSY) -> None:
        self.now, self.looks, self._busy_s, self._gap_s, self._code = 0.0, 0, busy_s, gap_s, code

    def begin(self) -> None:
        self.looks += 1
        if self.now % (self._busy_s + self._gap_s) < self._busy_s:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self._code
            raise error

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def waited_s(self, chance: Callable[[], float], within_s: float = 5.0) -> float:
        wait_for_turn(self.begin, within_s, lambda: self.now, self.sleep, chance)
        return self.now


@pytest.mark.parametrize("seed", range(20))
def test_gaps_of_half_a_millisecond_between_others_writes_are_found_within_two_seconds(seed: int) -> None:
    assert Others(busy_s=0.02, gap_s=0.0005).waited_s(random.Random(seed).random) < 2.0


def test_one_that_has_waited_for_long_has_the_better_chance() -> None:
    fresh, old = Others(busy_s=0.5, gap_s=0.1), Others(busy_s=2.5, gap_s=0.1)
    fresh.waited_s(lambda: 0.5)
    old.waited_s(lambda: 0.5)
    assert (old.looks - fresh.looks) / 2.0 > 2 * fresh.looks / 0.5


def test_it_ends_when_another_keeps_writing_and_is_told_what_was_in_the_way() -> None:
    others = Others(busy_s=1e9, gap_s=0.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        others.waited_s(random.random)
    assert 5.0 <= others.now < 5.1


def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    others = Others(busy_s=1e9, gap_s=0.0, code=LOCKED)
    with pytest.raises(sqlite3.OperationalError):
        others.waited_s(random.random)
    assert others.looks == 1
