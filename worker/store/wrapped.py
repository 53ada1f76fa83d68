"""A store around another, which passes on everything that its heirs do not do otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.breaker import Breaker
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.ports import Applied, Change, Drain, Inserted, JobFilter, JobStore, Lease, Page, Promised, Run, TorrentPage, Usage


class WrappedStore:
    """See `JobStore` for the promises: they are those of the inner one, which it closes, too."""

    def __init__(self, inner: JobStore) -> None:
        self._inner = inner

    def now(self) -> float:
        """See `JobStore`."""
        return self._inner.now()

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:
        """See `JobStore`."""
        return self._inner.insert(jobs, marks)

    def get(self, ids: Iterable[str]) -> dict[str, Job]:
        """See `JobStore`."""
        return self._inner.get(ids)

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        """See `JobStore`."""
        return self._inner.apply(changes, lease)

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """See `JobStore`."""
        self._inner.record_progress(rows, lease)

    def at_engine(self, engine: str) -> list[Job]:
        """See `JobStore`."""
        return self._inner.at_engine(engine)

    def needing_owner(self, engine: str, limit: int) -> list[Job]:
        """See `JobStore`."""
        return self._inner.needing_owner(engine, limit)

    def in_state(self, state: State, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore`."""
        return self._inner.in_state(state, limit, after=after)

    def undescribed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore`."""
        return self._inner.undescribed(limit, after=after)

    def unprobed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore`."""
        return self._inner.unprobed(limit, after=after)

    def short_of_space(self, limit: int) -> list[Job]:
        """See `JobStore`."""
        return self._inner.short_of_space(limit)

    def promised(self) -> list[Promised]:
        """See `JobStore`."""
        return self._inner.promised()

    def unsent(self, limit: int) -> list[Job]:
        """See `JobStore`."""
        return self._inner.unsent(limit)

    def mark_sent(self, sent: Mapping[str, int]) -> None:
        """See `JobStore`."""
        self._inner.mark_sent(sent)

    def unposted(self, receiver: str, now: float, limit: int) -> list[Job]:
        """See `JobStore`."""
        return self._inner.unposted(receiver, now, limit)

    def mark_posted(self, marks: Mapping[str, Hook]) -> None:
        """See `JobStore`."""
        self._inner.mark_posted(marks)

    def page(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        """See `JobStore`."""
        return self._inner.page(where, limit, cursor)

    def finished(self, limit: int, *, after: str | None = None) -> Page:
        """See `JobStore`."""
        return self._inner.finished(limit, after=after)

    def remove(self, jobs: Sequence[Job]) -> int:
        """See `JobStore`."""
        return self._inner.remove(jobs)

    def counts(self, states: Iterable[State] | None = None) -> dict[State, int]:
        """See `JobStore`."""
        return self._inner.counts(states)

    def holding(self, transfers: Iterable[str]) -> list[Job]:
        """See `JobStore`."""
        return self._inner.holding(transfers)

    def following(self, transfers: Iterable[str], limit: int) -> list[Job]:
        """See `JobStore`."""
        return self._inner.following(transfers, limit)

    def sharing(self, contents: Iterable[str]) -> list[Job]:
        """See `JobStore`."""
        return self._inner.sharing(contents)

    def followed(self) -> dict[str, int]:
        """See `JobStore`."""
        return self._inner.followed()

    def keep_torrent(self, document: bytes) -> str:
        """See `JobStore`."""
        return self._inner.keep_torrent(document)

    def torrents(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `JobStore`."""
        return self._inner.torrents(names)

    def unnamed_torrents(self, limit: int, *, after: str | None = None) -> TorrentPage:
        """See `JobStore`."""
        return self._inner.unnamed_torrents(limit, after=after)

    def forget_torrents(self, names: Iterable[str], before: float) -> int:
        """See `JobStore`."""
        return self._inner.forget_torrents(names, before)

    def engine_counts(self) -> dict[str, int]:
        """See `JobStore`."""
        return self._inner.engine_counts()

    def usage(self, users: Iterable[str], since: float) -> dict[str, Usage]:
        """See `JobStore`."""
        return self._inner.usage(users, since)

    def limits(self) -> dict[str, Any]:
        """See `JobStore`."""
        return self._inner.limits()

    def set_limits(self, values: Mapping[str, Any], drop: Iterable[str] = ()) -> None:
        """See `JobStore`."""
        self._inner.set_limits(values, drop)

    def slot_counts(self) -> dict[tuple[str, str], int]:
        """See `JobStore`."""
        return self._inner.slot_counts()

    def slot_uris(self) -> dict[str, int]:
        """See `JobStore`."""
        return self._inner.slot_uris()

    def engine_states(self) -> dict[str, dict[State, int]]:
        """See `JobStore`."""
        return self._inner.engine_states()

    def drains(self) -> dict[str, Drain]:
        """See `JobStore`."""
        return self._inner.drains()

    def drain(self, engine: str, drain: Drain) -> None:
        """See `JobStore`."""
        self._inner.drain(engine, drain)

    def undrain(self, engine: str) -> None:
        """See `JobStore`."""
        self._inner.undrain(engine)

    def breakers(self) -> dict[str, Breaker]:
        """See `JobStore`."""
        return self._inner.breakers()

    def keep_breaker(self, engine: str, breaker: Breaker, lease: Lease) -> None:
        """See `JobStore`."""
        self._inner.keep_breaker(engine, breaker, lease)

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """See `JobStore`."""
        return self._inner.acquire_lease(name, owner, ttl_s)

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """See `JobStore`."""
        return self._inner.renew_lease(lease, ttl_s)

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore`."""
        self._inner.release_lease(lease)

    def claim_run(self, name: str, slot: str, owner: str) -> bool:
        """See `JobStore`."""
        return self._inner.claim_run(name, slot, owner)

    def end_run(self, name: str, slot: str, *, ok: bool, report: Mapping[str, Any]) -> None:
        """See `JobStore`."""
        self._inner.end_run(name, slot, ok=ok, report=report)

    def runs(self, name: str | None, limit: int) -> list[Run]:
        """See `JobStore`."""
        return self._inner.runs(name, limit)

    def latest_runs(self, names: Sequence[str], limit: int) -> dict[str, list[Run]]:
        """See `JobStore`."""
        return self._inner.latest_runs(names, limit)

    def keep_runs(self, runs: Sequence[Run]) -> None:
        """See `JobStore`."""
        self._inner.keep_runs(runs)

    def drop_runs(self, name: str, keep: int, before: float | None = None) -> int:
        """See `JobStore`."""
        return self._inner.drop_runs(name, keep, before)

    def version(self) -> str:
        """See `JobStore`."""
        return self._inner.version()

    def drift(self) -> tuple[str, ...]:
        """See `JobStore`."""
        return self._inner.drift()

    def ping(self) -> None:
        """See `JobStore`."""
        self._inner.ping()

    def close(self) -> None:
        """See `JobStore`."""
        self._inner.close()
