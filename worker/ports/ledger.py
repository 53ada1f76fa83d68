"""The ledger of runs: which slot of a scheduled work was taken, by whom, and how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the run ledger: one slot of one scheduled job."""

    name: str
    slot: str
    owner: str
    started_at: float
    ended_at: float | None = None
    ok: bool | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


class Ledger(Protocol):
    """That part of a store. A name with a dot is no work by the clock: whoever writes such lines bounds them itself."""

    def claim_run(self, name: str, slot: str, owner: str) -> bool:
        """Take a slot of a scheduled job; true for exactly one caller, ever."""

    def end_run(self, name: str, slot: str, *, ok: bool, report: Mapping[str, Any]) -> None:
        """Write down how a claimed slot went; the first word counts."""

    def runs(self, name: str | None, limit: int) -> list[Run]:
        """The ledger, newest first."""

    def latest_runs(self, names: Sequence[str], limit: int) -> dict[str, list[Run]]:
        """Of each of these names its newest lines, newest first, in one look; a name without lines has an empty list."""

    def keep_runs(self, runs: Sequence[Run]) -> None:
        """Write down runs of another store as they are, oldest first; those whose slot is known stay as they are."""

    def drop_runs(self, name: str, keep: int, before: float | None = None) -> int:
        """Forget lines of one name, from before a time (store clock) if one is given, but never the `keep` newest; how many went.

        A slot that is forgotten can be claimed again.
        """
