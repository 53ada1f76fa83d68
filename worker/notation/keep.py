"""How many backups are kept, as it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"(\d{1,4})\s*(daily|weekly|monthly)")
FORM = "must be such as `7 daily, 4 weekly, 12 monthly`, or three whole numbers; at least one of the three is more than 0"


@dataclass(frozen=True, slots=True)
class Keep:
    """So many of the last days, weeks and months that have a backup keep their newest."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 12

    def __str__(self) -> str:
        return f"{self.daily} daily, {self.weekly} weekly, {self.monthly} monthly"


def read_keep(text: str) -> Keep:
    """Read `7 daily, 4 weekly, 12 monthly` (what is left out is 0), or `7, 4, 12`. Raises ValueError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 3 and all(part.isdigit() and len(part) <= 4 for part in parts):
        keep = Keep(*map(int, parts))
    else:
        found = [_PART.fullmatch(part) for part in parts]
        named = {match[2]: int(match[1]) for match in found if match}
        if None in found or len(named) < len(parts):
            raise ValueError(FORM)
        keep = Keep(**{"daily": 0, "weekly": 0, "monthly": 0, **named})
    if not (keep.daily or keep.weekly or keep.monthly):
        raise ValueError(FORM)
    return keep
