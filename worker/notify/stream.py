"""The event stream in Redis as a `Notifier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.ports import Coordinator


class StreamNotifier:
    """Implements `ports.Notifier`: bots, the API and webhooks read the stream from there."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """See `ports.Notifier`."""
        self._coordinator.publish(events)
