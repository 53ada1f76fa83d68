"""`JobStore` on a MongoDB database (5.0 or later, standalone, replica set or sharded), for the processes of many machines.

A job is one document and a change to it one write: no transaction is ever used, which a standalone server does not have.

Time is the server's: leases go by the clock of the primary, which has to be kept by slewing (as ntpd and chrony do), not by steps.
"""

from __future__ import annotations

from typing import final

from worker.store.mongo.breakers import MongoBreakers
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.counters import MongoCounters
from worker.store.mongo.drains import MongoDrains
from worker.store.mongo.indexes import MongoIndexes
from worker.store.mongo.jobs import MongoJobs
from worker.store.mongo.leases import MongoLeases
from worker.store.mongo.limits import MongoLimits
from worker.store.mongo.runs import MongoRuns
from worker.store.mongo.sums import MongoSums
from worker.store.mongo.torrents import MongoTorrents


@final
class MongoStore:
    """See `JobStore` for the promises. Safe for many threads; every call ends within two time-outs of the connection.

    It is put together from parts, one for each noun, which share the connection: its verbs are theirs. Whoever wants it otherwise
    puts a `WrappedStore` around it; an heir's verbs would stand behind these.
    """

    def __init__(self, connection: MongoConnection) -> None:
        self._connection = connection
        self.now, self.close = connection.now, connection.close
        leases, counters = MongoLeases(connection), MongoCounters(connection)
        self.acquire_lease, self.renew_lease, self.release_lease = leases.acquire_lease, leases.renew_lease, leases.release_lease

        jobs = MongoJobs(connection, leases, counters)
        self.insert, self.get, self.apply, self.remove = jobs.insert, jobs.get, jobs.apply, jobs.remove
        self.record_progress, self.mark_sent, self.mark_posted = jobs.record_progress, jobs.mark_sent, jobs.mark_posted
        self.page, self.finished, self.unsent, self.unposted = jobs.page, jobs.finished, jobs.unsent, jobs.unposted
        self.in_state, self.undescribed, self.unprobed = jobs.in_state, jobs.undescribed, jobs.unprobed
        self.short_of_space, self.at_engine, self.needing_owner = jobs.short_of_space, jobs.at_engine, jobs.needing_owner
        self.holding, self.following, self.sharing = jobs.holding, jobs.following, jobs.sharing

        sums = MongoSums(connection)
        self.counts, self.usage, self.promised, self.followed = sums.counts, sums.usage, sums.promised, sums.followed
        self.engine_counts, self.engine_states = sums.engine_counts, sums.engine_states
        self.slot_counts, self.slot_uris = sums.slot_counts, sums.slot_uris

        torrents = MongoTorrents(connection)
        self.keep_torrent, self.torrents = torrents.keep_torrent, torrents.torrents
        self.unnamed_torrents, self.forget_torrents = torrents.unnamed_torrents, torrents.forget_torrents

        runs = MongoRuns(connection, counters)
        self.claim_run, self.end_run, self.keep_runs, self.drop_runs = runs.claim_run, runs.end_run, runs.keep_runs, runs.drop_runs
        self.runs, self.latest_runs = runs.runs, runs.latest_runs

        limits, breakers, drains = MongoLimits(connection), MongoBreakers(connection, leases), MongoDrains(connection)
        self.limits, self.set_limits = limits.limits, limits.set_limits
        self.breakers, self.keep_breaker = breakers.breakers, breakers.keep_breaker
        self.drains, self.drain, self.undrain = drains.drains, drains.drain, drains.undrain

    def version(self) -> str:
        """See `JobStore.version`."""
        return f"MongoDB {self._connection.command('buildInfo')['version']}"

    def drift(self) -> tuple[str, ...]:
        """See `JobStore.drift`."""
        return MongoIndexes(self._connection).drift().lines()

    def ping(self) -> None:
        """See `JobStore.ping`."""
        self._connection.command("ping")
