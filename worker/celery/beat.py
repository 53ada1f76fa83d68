"""Beat's scheduler: Celery's own, which also goes on when the wall clock was set back."""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler


class Scheduler(PersistentScheduler):
    """Celery's sends nothing until the moment of the last sending, in its file or its memory, has come again: for an hour, after one back.

    A clock that was set forward makes each entry due once, in Celery's as in this one.
    """

    def tick(self, *args: Any, **options: Any) -> float:
        """One look, after entries that ran in the future were put down as run now; returns the seconds until the next."""
        ahead = [entry for entry in self.schedule.values() if entry.last_run_at and entry.last_run_at > entry.default_now()]
        for entry in ahead:
            entry.last_run_at = entry.default_now()
        if ahead:
            self._heap = None  # it holds the moments of the old clock, and is made anew
        return float(super().tick(*args, **options))
