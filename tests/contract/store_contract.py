"""What every `JobStore` promises to one process, all of it; `store_races` holds what it promises to many."""

from __future__ import annotations

from tests.contract.breaker_suite import BreakerSuite
from tests.contract.drains_suite import DrainsSuite
from tests.contract.limits_suite import LimitsSuite
from tests.contract.store_counts import CountSuite
from tests.contract.store_documents import DocumentSuite
from tests.contract.store_engines import EngineSuite
from tests.contract.store_hooks import HookSuite
from tests.contract.store_leases import LeaseSuite
from tests.contract.store_outbox import OutboxSuite
from tests.contract.store_pages import PageSuite
from tests.contract.store_progress import ProgressSuite
from tests.contract.store_runs import RunSuite
from tests.contract.store_server import ServerSuite
from tests.contract.store_sharing import SharingSuite
from tests.contract.store_space import SpaceSuite
from tests.contract.store_sweeps import SweepSuite
from tests.contract.store_writes import WriteSuite
from tests.contract.upkeep_suite import UpkeepSuite


class StoreSuite(
    WriteSuite,
    ProgressSuite,
    OutboxSuite,
    HookSuite,
    EngineSuite,
    SweepSuite,
    SharingSuite,
    CountSuite,
    PageSuite,
    DocumentSuite,
    LeaseSuite,
    RunSuite,
    ServerSuite,
    LimitsSuite,
    BreakerSuite,
    DrainsSuite,
    SpaceSuite,
    UpkeepSuite,
):
    """All of it."""
