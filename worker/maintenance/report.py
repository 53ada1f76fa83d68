"""What a piece of nightly work says when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """How one run went; kept in the run ledger as it is, so it holds no secret and no user.

    Attributes:
        ok: the work did what it is there for; False raises the alert of its name.
        summary: one line for a person.
        figures: numbers with their unit in the name (`bytes`, `seconds`, `jobs_removed`), JSON.
        details: whatever else a reader of `haul schedule history` should find, JSON, a few kilobytes at most.
    """

    ok: bool
    summary: str
    figures: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """For the ledger and for `--json`."""
        return {"summary": self.summary, "figures": dict(self.figures), "details": dict(self.details)}
