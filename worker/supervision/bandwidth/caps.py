"""Budgets of bandwidth that downloads share, those of a tier and of a user: divided over them, on all engines. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from worker.supervision.bandwidth.division import Use, divide

#: What a download can use is rounded up to steps of this ratio, so that few limits differ and few of them move.
STEP = 1.25


@dataclass(frozen=True, slots=True)
class Demand:
    """What the downloads of one engine can use of a budget; its owner tells the others.

    Attributes:
        hungry: how many can use all they are given.
        modest: how many others there are, and what they can use together (`wants`, bytes a second).
        speed: what all of them take now.
    """

    hungry: int = 0
    modest: int = 0
    wants: float = 0.0
    speed: int = 0

    @staticmethod
    def read(values: Mapping[str, float]) -> Demand:
        """As another process shared it; what cannot be read is none."""
        try:
            return Demand(int(values["hungry"]), int(values["modest"]), float(values["wants"]), int(values["speed"]))
        except (KeyError, TypeError, ValueError):
            return Demand()


def demand(wants: Collection[float | None], speed: int) -> Demand:
    """Of downloads, by what each can use; None is all it is given."""
    known = [want for want in wants if want is not None]
    return Demand(len(wants) - len(known), len(known), sum(known), speed)


def part(rate: int, here: Demand, others: Iterable[Demand]) -> int:
    """Bytes a second of a budget for the downloads of one engine: each download gets as much as any other that wants it."""
    uses: dict[str, Use] = {}
    for n, there in enumerate((here, *others)):
        if there.hungry:
            uses[f"{n} hungry"] = Use(there.hungry, None)
        if there.modest:
            uses[f"{n} modest"] = Use(there.modest, there.wants)
    shares = divide(rate, uses)
    return shares.get("0 hungry", 0) + shares.get("0 modest", 0)


def each(rate: int, wants: Mapping[str, float | None], others: Iterable[Demand]) -> dict[str, int]:
    """Bytes a second for each download of one engine.

    Args:
        others: what the other engines' downloads can use of the same budget.
    """
    mine = part(rate, demand(wants.values(), 0), others)
    return divide(mine, {handle: Use(1, want) for handle, want in wants.items()})


def least(*bounds: float | None) -> float | None:
    """The smallest; None is no bound."""
    return min((bound for bound in bounds if bound is not None), default=None)


def stepped(wants: float | None) -> float | None:
    """Rounded up to a power of `STEP`."""
    return None if wants is None else STEP ** math.ceil(math.log(max(1.0, wants), STEP))
