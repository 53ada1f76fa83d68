"""A work that is due once a minute and takes some seconds.

QUICK_SECOND is the second at which it is due, QUICK_NOTES the file that tells who began and who ended.
"""

from __future__ import annotations

import os
import time
from zoneinfo import ZoneInfo

from worker.maintenance.report import Report
from worker.maintenance.schedule import Entry
from worker.ports import Services

NAME = "night"
TAKES_S = 5.0


def entry(second: int) -> Entry:
    """Due each minute; caught up for nearly as long."""
    return Entry(NAME, f"{second} * * * * *", 55.0, "records", ZoneInfo("UTC"))


def work(services: Services) -> Report:
    """Say that it begins, take its time, say that it ended."""
    _note("begin")
    time.sleep(TAKES_S)
    _note("end")
    return Report(True, services.owner)


def _note(what: str) -> None:
    with open(os.environ["QUICK_NOTES"], "a") as notes:
        notes.write(f"{what} {os.getpid()}\n")
