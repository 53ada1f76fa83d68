"""Waiting for what has to come about, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

#: Of what other processes do, and of what this one does.
POLL_S, QUICK_POLL_S = 0.05, 0.005
TIMEOUT_S, DEADLINE_S = 60.0, 30.0
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, timeout_s: float = TIMEOUT_S, seen: Callable[[], object] | None = None) -> T:
    """The first true value of `look`; when there is none in time, fails with what was seen last (`seen`, or the value itself)."""
    return _first(look, what, timeout_s, seen, POLL_S)


def until(condition: Callable[[], T], what: str = "it comes about") -> T:
    """As `eventually`, of what this process does: looked at 200 times a second."""
    return _first(condition, what, DEADLINE_S, None, QUICK_POLL_S)


def _first(look: Callable[[], T], what: str, timeout_s: float, seen: Callable[[], object] | None, poll_s: float) -> T:
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; seen last: {seen() if seen else value!r}")
        time.sleep(poll_s)
    return value
