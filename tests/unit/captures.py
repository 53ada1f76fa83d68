"""Captures as a simulated system would give them: a known truth, and noise of known size from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from worker.maintenance.baseline.document import Capture, id_of
from worker.maintenance.baseline.figures import RULES, Better, Figure

NOON = 1_700_000_000.0
MACHINE: Mapping[str, Any] = {"cores": 2.0, "memory_gib": 8, "architecture": "x86_64", "store": "sqlite"}
ROUNDS = 7
#: Far above every absolute floor, so that a third of it is a change that matters.
TRUTH = {name.replace("*", "one"): 400.0 if rule.unit == "ms" else 4e9 if rule.unit == "bytes" else 4_000.0 for name, rule in RULES.items()}
#: All that is judged.
JUDGED = tuple(name for name in TRUTH if RULES[name.replace(".one.", ".*.")].better is Better.LOWER)


def capture(number: int, figures: Mapping[str, Figure], **fields: Any) -> Capture:
    """A capture by the clock, an hour after the one of the number before."""
    at = NOON + 3600.0 * number
    values: dict[str, Any] = {"source": "clock", "seconds": 5.0, "machine": MACHINE, "versions": {"haul": "1", "redis": "Valkey 8"}}
    return Capture(id=id_of(at), at=at, figures=figures, **{**values, **fields})


class System:
    """A system that does not change.

    Args:
        between: standard deviation between captures, as a part of each figure.
        within: the same between the rounds of a capture.
        truth: what it takes for everything.
    """

    def __init__(self, seed: int, *, between: float = 0.03, within: float = 0.06, truth: Mapping[str, float] = TRUTH) -> None:
        self._random, self._between, self._within, self._truth = random.Random(seed), between, within, truth
        self._made = 0

    def capture(self, times: Mapping[str, float] | None = None) -> Capture:
        """The next hour's; some figures multiplied."""
        self._made += 1
        return capture(
            self._made,
            {
                name: self._figure(value * (times or {}).get(name, 1.0), not name.startswith("tests."))
                for name, value in self._truth.items()
            },
        )

    def captures(self, n: int) -> list[Capture]:
        """The next hours', newest first."""
        return [self.capture() for _ in range(n)][::-1]

    def _figure(self, truth: float, noisy: bool) -> Figure:
        if not noisy:
            return Figure(truth, 0.0, 1)
        middle = truth * self._random.lognormvariate(0, self._between)
        return Figure.of([middle * self._random.lognormvariate(0, self._within) for _ in range(ROUNDS)])
