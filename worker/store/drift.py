"""How the indexes of a store differ from those Haul declares; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs, by `collection.index` or `table.index`, each with its definition as text.

    Attributes:
        missing: declared and not there; changed: there under the same name and defined otherwise, as it is there.
        foreign: there and not declared; somebody may have made them for his own questions.
        tables: other differences, in words; no command here mends them.
    """

    missing: Mapping[str, str]
    changed: Mapping[str, str]
    foreign: Mapping[str, str]
    tables: Sequence[str] = ()

    @property
    def none(self) -> bool:
        """The store is as declared."""
        return not (self.missing or self.changed or self.foreign or self.tables)

    def lines(self) -> tuple[str, ...]:
        """Each difference in a line."""
        named = (("missing", self.missing), ("changed", self.changed), ("foreign", self.foreign))
        return (*(f"{what} {name} {text}" for what, found in named for name, text in found.items()), *self.tables)


def compared(declared: Mapping[str, str], there: Mapping[str, str], tables: Sequence[str] = ()) -> Drift:
    """The difference of two sets of definitions; pure."""
    return Drift(
        {name: text for name, text in declared.items() if name not in there},
        {name: text for name, text in there.items() if name in declared and declared[name] != text},
        {name: text for name, text in there.items() if name not in declared},
        tables,
    )
