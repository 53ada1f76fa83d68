"""Every metric: prefix `haul_`, units in names, bounded labels, never a user, a URL or a job id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gauge = partial(Gauge, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        seconds = partial(Histogram, registry=self.registry, buckets=SECONDS)
        # What the store says; set when somebody scrapes.
        self.jobs = gauge("haul_jobs", "Jobs by state", ["state"])
        self.intake = gauge("haul_intake_messages", "Messages in the intake stream")
        self.put_aside = gauge("haul_parked_messages", "Messages put aside that are still kept, of the intake and of the broker")
        self.waiting = gauge("haul_waiting_jobs", "Jobs in the waiting index")
        # What the engines say.
        self.engine_up = gauge("haul_engine_up", "1 when the engine answered its owner's last poll", ["engine"])
        self.engine_breaker = gauge("haul_engine_breaker", "1 for the state that the engine's breaker is in", ["engine", "state"])
        self.engine_items = gauge("haul_engine_items", "Transfers at the engine", ["engine"])
        self.engine_foreign = gauge("haul_engine_foreign_items", "Items at the engine that are not ours", ["engine"])
        self.engine_speed = gauge("haul_engine_speed_bytes_per_second", "Download speed of the engine", ["engine"])
        self.engine_limit = gauge("haul_engine_limit_bytes_per_second", "What its downloads are held to; 0 is no limit", ["engine"])
        self.engine_share = gauge("haul_engine_share_bytes_per_second", "What it is to take of the budget; 0 is no limit", ["engine"])
        self.engine_unheld = gauge("haul_engine_unheld_downloads", "Downloads that do not show the limit they were given", ["engine"])
        self.engine_free = gauge("haul_engine_free_bytes", "Free space of the engine's volume", ["engine"])
        # What this process did.
        self.ticks = seconds("haul_tick_seconds", "Duration of one look at an engine", ["engine"])
        self.tick_errors = counter("haul_tick_errors", "Looks at an engine that failed", ["engine"])
        # Actions: `supervision.corrections.Action`, and `index` (no engine) for the waiting index in Redis.
        self.reconciled = counter("haul_reconcile_actions", "Differences put right between store, engine and Redis", ["engine", "action"])
        self.steps = seconds("haul_step_seconds", "Duration of one run of a step", ["step"])
        self.step_items = counter("haul_step_items", "Jobs or messages a step moved", ["step"])
        self.nudges = counter("haul_nudges", "Nudges by outcome: sent, pending, lost", ["step", "outcome"])
        # joined: has its file by another's download; handed: went on with another's; released: waits for its turn again.
        self.shared = counter("haul_shared", "Jobs that shared a download, by what came of it", ["outcome"])
        self.parked = counter("haul_intake_parked", "Intake messages put aside: nobody could decode them or deal with them")
        self.poisonous = counter("haul_poisonous", "Jobs and messages given up because their worker died with them each time", ["step"])
        self.webhooks = seconds("haul_webhook_post_seconds", "Posts to webhooks by outcome: taken, refused, unanswered", ["outcome"])
        self.webhooks_given_up = counter("haul_webhook_events_given_up", "Events no webhook will be told of")
        # rate, queue, bytes, size, tier, engine; conflict: the key is known with another source; request: what it says is wrong.
        self.refusals = counter("haul_refusals", "Requests the doors refused, by the rule", ["cause"])
        # Writes to the store, by kind: insert, apply, sent, posted, progress; outcomes of failures: `store.meter`.
        sizes = partial(Histogram, registry=self.registry, buckets=COUNTS)
        self.batch_size = sizes("haul_store_batch_size", "Operations written by one call", ["kind"])
        self.batch_seconds = seconds("haul_store_batch_seconds", "Duration of one such call", ["kind"])
        self.batch_waited = seconds("haul_store_batch_wait_seconds", "What writers waited for others and their own batch", ["kind"])
        self.batch_buffered = gauge("haul_store_batch_buffered", "Operations that are kept to be written", ["kind"])
        self.batch_failed = counter("haul_store_batch_failures", "Writes that went wrong, by what was done about it", ["kind", "outcome"])
        # Connections of this process: pool store or redis; events: opened, closed, refused, cleared.
        self.pool_connections = gauge("haul_pool_connections", "Connections that are open", ["pool"])
        self.pool_used = gauge("haul_pool_connections_in_use", "Connections that are lent", ["pool"])
        self.pool_waited = seconds("haul_pool_wait_seconds", "What a call waited for a connection", ["pool"])
        self.pool_events = counter("haul_pool_events", "What became of connections", ["pool", "outcome"])
        self.given_way = counter("haul_space_given_way_bytes", "Bytes fetched that waiting jobs let go of, so that another could go on")
        self.ended = counter("haul_jobs_ended", "Jobs that ended", ["state", "cause"])
        self.bytes = counter("haul_downloaded_bytes", "Bytes of jobs that are done", ["engine"])
        # What the advisor counted, of steps, ticks and routes; every 15 s.
        self.store_operations = counter("haul_store_operations", "Operations of the store", ["doing", "verb"])
        self.store_seconds = counter("haul_store_operation_seconds", "Time operations of the store took", ["doing", "verb"])
        self.advice = gauge("haul_advice", "Findings of the advisor by kind; `haul advise` shows them", ["kind"])
        # What is done by the clock, from the ledger: the same in every process that is scraped.
        self.maintenance_success = gauge("haul_maintenance_last_success_timestamp_seconds", "End of the last run that went well", ["work"])
        self.maintenance_seconds = gauge("haul_maintenance_seconds", "Duration of the last run that went well", ["work"])
        self.maintenance_ok = gauge("haul_maintenance_ok", "1 when the last run went well, 0 when it failed or was missed", ["work"])
        self.maintenance_runs = counter("haul_maintenance_runs", "Runs by outcome: ok, failed, died, missed", ["work", "outcome"])
        # Of the last baseline of the hour, and of the day; `haul schedule history baseline` says which figures.
        self.regressions = gauge("haul_baseline_regressions", "Figures worse than the median of the seven captures before", ["work"])
        # Of the run ledger; set when somebody scrapes, and absent while there was no run.
        self.backup_at = gauge("haul_backup_last_success_timestamp_seconds", "When the last good backup was made", ["kind"])
        self.backup_ok = gauge("haul_backup_ok", "1 when the last try to make a backup, or to restore one in a drill, went well", ["kind"])
        self.backup_bytes = gauge("haul_backup_bytes", "Bytes of the last good backup on the disk", ["kind"])
        self.backup_seconds = gauge("haul_backup_seconds", "What the last good backup, or drill, took", ["kind"])
        self.drill_at = gauge("haul_restore_drill_last_success_timestamp_seconds", "When a backup was restored in a drill last", ["kind"])
        self.requests = seconds("haul_http_request_seconds", "HTTP requests", ["method", "route", "status"])

    def watch_cache(self, figures: Callable[[], tuple[Mapping[str, int], Mapping[str, Mapping[str, int]]]]) -> None:
        """Show a cache, which counts for itself: a read of it costs less than counting here would.

        Args:
            figures: gauges by name, and counts by kind and outcome; asked when somebody scrapes.
        """
        self.registry.register(_CacheFigures(figures))


class _CacheFigures(Collector):
    def __init__(self, figures: Callable[[], tuple[Mapping[str, int], Mapping[str, Mapping[str, int]]]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        gauges, kinds = self._figures()
        for name, value in gauges.items():
            yield GaugeMetricFamily(f"haul_cache_{name}", f"The cache of this process: {name}", value)
        # local, shared: found here, found in Redis; misses; stale: given when its time was over; negative: nothing, and that was known;
        # fills: loads; lost: loads that an invalidation overtook; waits: for the load of another.
        counts = CounterMetricFamily("haul_cache_reads", "What became of reads through the cache, by kind", labels=["cache", "outcome"])
        for kind, outcomes in kinds.items():
            for outcome, count in outcomes.items():
                counts.add_metric([kind, outcome], count)
        yield counts

    def describe(self) -> Iterator[Metric]:
        return iter(())
