"""A work that is due once or twice a minute and takes some seconds.

QUICK_SECONDS are those of a minute at which it is due, as `12,42`, QUICK_NOTES the file that tells who began and who ended.
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


def entry(seconds: str) -> Entry:
    """Due at these seconds of each minute; caught up for nearly as long as until the next."""
    return Entry(NAME, f"{seconds} * * * * *", 25.0 if "," in seconds else 55.0, "records", ZoneInfo("UTC"))


def work(services: Services) -> Report:
    """Say that it begins, take its time, say that it ended."""
    _note("begin")
    time.sleep(TAKES_S)
    _note("end")
    return Report(True, services.owner)


def _note(what: str) -> None:
    with open(os.environ["QUICK_NOTES"], "a") as notes:
        notes.write(f"{what} {os.getpid()}\n")
