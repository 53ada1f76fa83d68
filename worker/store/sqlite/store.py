"""`JobStore` on one SQLite file, for the processes of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import final

from worker.store.advisor import Advisor
from worker.store.sqlite.breakers import SqliteBreakers
from worker.store.sqlite.drains import SqliteDrains
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.indexes import SqliteIndexes
from worker.store.sqlite.jobs import SqliteJobs
from worker.store.sqlite.leases import SqliteLeases
from worker.store.sqlite.limits import SqliteLimits
from worker.store.sqlite.runs import SqliteRuns
from worker.store.sqlite.sums import SqliteSums
from worker.store.sqlite.torrents import SqliteTorrents


@final
class SqliteStore:
    """See `JobStore` for the promises. Safe for many threads; each batch is one transaction.

    It is put together from parts, one for each noun, which share nothing but the file: its verbs are theirs. Whoever wants it
    otherwise puts a `WrappedStore` around it; an heir's verbs would stand behind these.

    Arguments and errors are those of `SqliteFile`.
    """

    def __init__(self, path: Path, clock: Callable[[], float] | None = None, advisor: Advisor | None = None) -> None:
        self._file = file = SqliteFile(path, clock, advisor)
        self.now, self.ping, self.close = file.now, file.ping, file.close

        jobs = SqliteJobs(file)
        self.insert, self.get, self.apply, self.remove = jobs.insert, jobs.get, jobs.apply, jobs.remove
        self.record_progress, self.mark_sent, self.mark_posted = jobs.record_progress, jobs.mark_sent, jobs.mark_posted
        self.page, self.finished, self.in_state, self.unsent, self.unposted = (
            jobs.page,
            jobs.finished,
            jobs.in_state,
            jobs.unsent,
            jobs.unposted,
        )
        self.undescribed, self.unprobed, self.short_of_space = jobs.undescribed, jobs.unprobed, jobs.short_of_space
        self.at_engine, self.needing_owner = jobs.at_engine, jobs.needing_owner
        self.holding, self.following, self.sharing = jobs.holding, jobs.following, jobs.sharing

        sums = SqliteSums(file)
        self.counts, self.usage, self.promised, self.followed = sums.counts, sums.usage, sums.promised, sums.followed
        self.engine_counts, self.engine_states = sums.engine_counts, sums.engine_states
        self.slot_counts, self.slot_uris = sums.slot_counts, sums.slot_uris

        torrents = SqliteTorrents(file)
        self.keep_torrent, self.torrents = torrents.keep_torrent, torrents.torrents
        self.unnamed_torrents, self.forget_torrents = torrents.unnamed_torrents, torrents.forget_torrents

        leases = SqliteLeases(file)
        self.acquire_lease, self.renew_lease, self.release_lease = leases.acquire_lease, leases.renew_lease, leases.release_lease

        runs = SqliteRuns(file)
        self.claim_run, self.end_run, self.keep_runs, self.drop_runs = runs.claim_run, runs.end_run, runs.keep_runs, runs.drop_runs
        self.runs, self.latest_runs = runs.runs, runs.latest_runs

        limits, breakers, drains = SqliteLimits(file), SqliteBreakers(file), SqliteDrains(file)
        self.limits, self.set_limits = limits.limits, limits.set_limits
        self.breakers, self.keep_breaker = breakers.breakers, breakers.keep_breaker
        self.drains, self.drain, self.undrain = drains.drains, drains.drain, drains.undrain

    def version(self) -> str:
        """See `JobStore.version`; the library of this process."""
        return f"SQLite {sqlite3.sqlite_version}"

    def drift(self) -> tuple[str, ...]:
        """See `JobStore.drift`."""
        with closing(SqliteIndexes(self._file.path)) as indexes:
            return indexes.drift().lines()
