"""Transactions that a client of this process begins; a standalone MongoDB has none."""

from __future__ import annotations

import pymongo.monitoring
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent


class Transactions(CommandListener):
    """Notes each command that begins or ends a transaction, of every client of this process."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if "startTransaction" in event.command or event.command_name in ("commitTransaction", "abortTransaction"):
            self.seen.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


TRANSACTIONS = Transactions()
pymongo.monitoring.register(TRANSACTIONS)
