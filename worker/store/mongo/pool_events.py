"""What the driver tells of its connections becomes metrics."""

from __future__ import annotations

from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

from worker.metrics import Metrics

POOL = "store"


class PoolEvents(ConnectionPoolListener):
    """Counts connections and waits of all servers together; those that only watch a server are not among them."""

    def __init__(self, metrics: Metrics) -> None:
        self._open = metrics.pool_connections.labels(POOL)
        self._used = metrics.pool_used.labels(POOL)
        self._waited = metrics.pool_waited.labels(POOL)
        self._events = {name: metrics.pool_events.labels(POOL, name) for name in ("opened", "closed", "refused", "cleared")}

    def connection_created(self, event: ConnectionCreatedEvent) -> None:  # noqa: ARG002 - the driver passes it
        """See the driver."""
        self._open.inc()
        self._events["opened"].inc()

    def connection_closed(self, event: ConnectionClosedEvent) -> None:  # noqa: ARG002
        """See the driver."""
        self._open.dec()
        self._events["closed"].inc()

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """See the driver."""
        self._used.inc()
        self._waited.observe(event.duration or 0.0)

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:  # noqa: ARG002
        """See the driver."""
        self._used.dec()

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        """See the driver."""
        self._waited.observe(event.duration or 0.0)
        self._events["refused"].inc()

    def pool_cleared(self, event: PoolClearedEvent) -> None:  # noqa: ARG002
        """See the driver."""
        self._events["cleared"].inc()

    def pool_created(self, event: PoolCreatedEvent) -> None:
        """Not counted."""

    def pool_ready(self, event: PoolReadyEvent) -> None:
        """Not counted."""

    def pool_closed(self, event: PoolClosedEvent) -> None:
        """Not counted; each of its connections is."""

    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        """Not counted."""

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        """Not counted."""
