"""A store that says which jobs a write may have changed: after the write, and also when nobody knows whether it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

from worker.jobs.model import Job, Progress
from worker.ports import Applied, Change, Drain, Inserted, JobStore, Lease


class Changed(Protocol):
    """Told of each write; never raises and never waits."""

    def jobs(self, jobs: Iterable[Job]) -> None:
        """These may be new, or have become others."""

    def progress(self, ids: Iterable[str]) -> None:
        """The progress of these may be another."""

    def limits(self) -> None:
        """Limits that are set at run time may be others."""

    def engines(self) -> None:
        """What an operator wants of an engine may be something else."""


def announcing(store: JobStore, changed: Changed) -> JobStore:
    """The same store; every write that readers can see is announced before it returns or raises."""
    return cast(JobStore, _Announcing(store, changed))


class _Announcing:
    """Passes everything on. Marks of what was sent or posted are not announced: no reader sees them."""

    def __init__(self, store: JobStore, changed: Changed) -> None:
        self._store, self._changed = store, changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:
        try:
            return self._store.insert(jobs, marks)
        finally:
            self._changed.jobs(jobs)

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        try:
            return self._store.apply(changes, lease)
        finally:
            self._changed.jobs([change.new for change in changes])

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        try:
            self._store.record_progress(rows, lease)
        finally:
            self._changed.progress(rows)

    def remove(self, jobs: Sequence[Job]) -> int:
        try:
            return self._store.remove(jobs)
        finally:
            self._changed.jobs(jobs)

    def set_limits(self, values: Mapping[str, Any], drop: Iterable[str] = ()) -> None:
        try:
            self._store.set_limits(values, drop)
        finally:
            self._changed.limits()

    def drain(self, engine: str, drain: Drain) -> None:
        try:
            self._store.drain(engine, drain)
        finally:
            self._changed.engines()

    def undrain(self, engine: str) -> None:
        try:
            self._store.undrain(engine)
        finally:
            self._changed.engines()
