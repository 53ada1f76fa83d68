"""The indexes of the store against those Haul declares: told, never mended, for making one may hold up every writer."""

from __future__ import annotations

from worker.maintenance.report import Report
from worker.ports import Services

#: Differences that are named in a report; the others are counted.
NAMED_MAX = 20


def run(services: Services) -> Report:
    """Compare them. Raises Transient when the store does not answer."""
    found = services.store.drift()
    if not found:
        return Report(True, "the store is as declared", {"differences": 0})
    summary = f"{len(found)} differences from what is declared; `haul indexes plan` shows them, `haul indexes apply` makes what is missing"
    return Report(False, summary, {"differences": len(found)}, {"found": list(found[:NAMED_MAX])})
