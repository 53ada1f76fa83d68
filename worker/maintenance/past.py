"""What the ledger tells of a work's past: what has ended, how, and when; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.maintenance.schedule import BORN, is_birth
from worker.ports import Run


@dataclass(frozen=True, slots=True)
class Past:
    """Runs and misses that have ended, newest first."""

    ended: tuple[Run, ...]

    @staticmethod
    def of(*lines: Sequence[Run]) -> Past:
        """From the newest lines of a work, of each name it is written down under."""
        ended = [line for each in lines for line in each if not is_birth(line.slot) and line.ended_at is not None]
        if len(lines) > 1:
            ended.sort(key=lambda line: line.started_at, reverse=True)
        return Past(tuple(ended))

    @property
    def last(self) -> Run | None:
        """However it went."""
        return self.ended[0] if self.ended else None

    @property
    def success(self) -> Run | None:
        """The last that went well."""
        return next((line for line in self.ended if line.ok), None)


def result_of(line: Run) -> str:
    """ok, failed, missed, running, died; `born` is no run."""
    if is_birth(line.slot):
        return BORN
    if line.ended_at is None:
        return "running"
    return "ok" if line.ok else "missed" if line.report.get("missed") else "died" if line.report.get("died") else "failed"


def seconds_of(line: Run) -> float | None:
    """How long a run took; None while it runs."""
    return None if line.ended_at is None else float(line.report.get("seconds", round(line.ended_at - line.started_at, 3)))


def moment_of(line: Run) -> float:
    """When a run ended, by the wall clock of who ran it."""
    return float(line.report.get("at", line.ended_at or line.started_at))


def figures_of(line: Run | None) -> dict[str, float]:
    """What its report counted; nothing when there is none."""
    found = line.report.get("figures") if line else None
    return {name: float(value) for name, value in found.items()} if isinstance(found, dict) else {}
