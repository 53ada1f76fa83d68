"""What is said while a backup waits for its store."""

from __future__ import annotations

from structlog.testing import capture_logs

from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.work import NightPace


def test_what_is_waited_for_is_shown_beside_what_is_being_done() -> None:
    shown: list[str] = []
    pace = Pace(0, lambda doing, _done, _total: shown.append(doing))
    pace.begin("restoring", 100)
    pace._told_at = 0.0
    pace.wait("the connection broke, trying again")
    assert shown == ["restoring", "restoring (the connection broke, trying again)"]


def test_at_night_it_is_logged_and_not_again_and_again() -> None:
    pace = NightPace()
    with capture_logs() as lines:
        for _ in range(5):
            pace.wait("the connection broke, trying again")
    assert [line["why"] for line in lines] == ["the connection broke, trying again"]
