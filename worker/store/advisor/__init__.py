"""Looks at what is asked of the store, and says what to do better."""

from worker.store.advisor.advisor import Advisor
from worker.store.advisor.findings import Finding, Kind

__all__ = ["Advisor", "Finding", "Kind"]
