"""What every `Coordinator` promises, but for the buckets, which `bucket_suite` holds."""

from __future__ import annotations

from tests.contract.coordinator_events import EventSuite
from tests.contract.coordinator_intake import IntakeSuite
from tests.contract.coordinator_redis import RedisSuite
from tests.contract.coordinator_rest import RestSuite
from tests.contract.coordinator_shared import SharedSuite
from tests.contract.coordinator_waiting import WaitingSuite
from tests.contract.coordinator_work import WorkSuite


class CoordinatorSuite(IntakeSuite, WorkSuite, RestSuite, WaitingSuite, SharedSuite, EventSuite, RedisSuite):
    """All of it."""
