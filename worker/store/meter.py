"""What batches of one kind of write are counted by."""

from __future__ import annotations

from worker.metrics import Metrics


class Meter:
    """The metrics `haul_store_batch_…` of one kind: insert, apply, sent, posted or progress."""

    def __init__(self, metrics: Metrics, kind: str) -> None:
        self._metrics = metrics
        self._kind = kind
        self._size = metrics.batch_size.labels(kind)
        self._seconds = metrics.batch_seconds.labels(kind)
        self._waited = metrics.batch_waited.labels(kind)
        self._buffered = metrics.batch_buffered.labels(kind)

    def written(self, items: int, seconds: float) -> None:
        """A call to the store ended, well or not."""
        self._size.observe(items)
        self._seconds.observe(seconds)

    def waited(self, seconds: float) -> None:
        """A caller waited for its answer while others wrote."""
        self._waited.observe(seconds)

    def buffered(self, items: int) -> None:
        """So many more, or fewer, are kept to be written."""
        self._buffered.inc(items)

    def failed(self, outcome: str, writes: int = 1) -> None:
        """A write did not go as it should: retried, split, raised to its caller, full (no room to wait), dropped (lease lost)."""
        self._metrics.batch_failed.labels(self._kind, outcome).inc(writes)
