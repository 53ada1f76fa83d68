"""Every seam: what the steps need from engines, store, Redis and the outside.

One contract suite in `tests/contract` holds each implementation, the fakes included, to these promises. All calls are
synchronous, bounded by a time-out of the implementation's own, and raise `Transient` when a service does not answer.
"""

from worker.ports.cache import Again, Asked, Cache, CacheStats, Hot, Kind, KindStats, NoCache
from worker.ports.coordinator import (
    Coordinator,
    Freed,
    Heads,
    IntakeEntry,
    ServerFacts,
    StreamReset,
    TurnsMoved,
    WaitingJob,
    WaitingLine,
)
from worker.ports.dump import Archive, Dump, Hopeless, Load, Spend, Table, Wait, unseen
from worker.ports.engine import Engine, Fault, Features, FoundFile, Item, ItemStatus, Order, Poll, able
from worker.ports.figures import Promised, Usage
from worker.ports.ledger import Ledger, Run
from worker.ports.services import SWEEPER, Clock, FixedPool, Notifier, Nudger, Pool, Services, Step, Tiers
from worker.ports.snapshot import EngineSnapshot
from worker.ports.store import ENGINE_LEASE, Applied, Change, Drain, Inserted, JobFilter, JobStore, Lease, Page, new_mark
from worker.ports.torrents import TorrentPage

__all__ = [
    "ENGINE_LEASE",
    "SWEEPER",
    "Again",
    "Applied",
    "Archive",
    "Asked",
    "Cache",
    "CacheStats",
    "Change",
    "Clock",
    "Coordinator",
    "Drain",
    "Dump",
    "Engine",
    "EngineSnapshot",
    "Fault",
    "Features",
    "FixedPool",
    "FoundFile",
    "Freed",
    "Heads",
    "Hopeless",
    "Hot",
    "Inserted",
    "IntakeEntry",
    "Item",
    "ItemStatus",
    "JobFilter",
    "JobStore",
    "Kind",
    "KindStats",
    "Lease",
    "Ledger",
    "Load",
    "NoCache",
    "Notifier",
    "Nudger",
    "Order",
    "Page",
    "Poll",
    "Pool",
    "Promised",
    "Run",
    "ServerFacts",
    "Services",
    "Spend",
    "Step",
    "StreamReset",
    "Table",
    "Tiers",
    "TorrentPage",
    "TurnsMoved",
    "Usage",
    "Wait",
    "WaitingJob",
    "WaitingLine",
    "able",
    "new_mark",
    "unseen",
]
