"""Waiting for what has to come about, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.05
TIMEOUT_S = 60.0
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, timeout_s: float = TIMEOUT_S, seen: Callable[[], object] | None = None) -> T:
    """The first true value of `look`; when there is none in time, fails with what was seen last (`seen`, or the value itself)."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; seen last: {seen() if seen else value!r}")
        time.sleep(POLL_S)
    return value
