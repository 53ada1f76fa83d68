"""Lines of the ledger of runs, by the name of their work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker.ports import Run


def by_name(names: Sequence[str], runs: Iterable[Run]) -> dict[str, list[Run]]:
    """What `JobStore.latest_runs` gives, from lines in its order."""
    found: dict[str, list[Run]] = {name: [] for name in names}
    for run in runs:
        found[run.name].append(run)
    return found
