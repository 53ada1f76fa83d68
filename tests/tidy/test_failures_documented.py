"""docs/failures.md is what the tables of the code and their tests say."""

from __future__ import annotations

from tests.failures import DOCUMENT, document, follows
from worker.jobs.states import Cause, Reason
from worker.ports import Fault


def test_the_page_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run python -m tests.failures"


def test_what_follows_is_found_by_trying() -> None:
    assert follows(Fault(Cause.NOT_FOUND, False, "")) == "failed"
    assert follows(Fault(Cause.UNREACHABLE, True, "")) == "again, 1 time, then failed"
    assert follows(Fault(Cause.DISK, False, "", elsewhere=True)) == "another engine, then failed"
    assert follows(Fault(Cause.METADATA, True, "", elsewhere=True)) == "another engine, then again, 2 times, then failed"
    assert follows(Fault(Cause.INTERRUPTED, False, "", anew=True)) == "once from the start, then failed"
    assert follows(Fault(Cause.DISK, True, "", wait=Reason.SPACE)) == "waits (`space`) and starts by itself; nothing failed"
