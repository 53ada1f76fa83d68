"""Single limits as an operator writes them, in a file or on a command line: checked, and what is wrong is named, with its fix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from worker.jobs.errors import HaulError
from worker.jobs.tiers import Overall, Tier
from worker.notation.sizes import read_size

#: The text that lifts a limit, for TOML has no null.
NONE = "none"
NUMBER_MAX = 1e9
SIZE_MAX = 1 << 60
#: What a bucket holds at most: more than anybody starts.
BURST_MAX = 1e6
WEIGHT_MAX = 1_000
#: Characters of a wrong value that a message repeats.
SHOWN_MAX = 64

#: The tables of the file, and of each the dataclass whose fields it may have.
GLOBAL = "global"
TABLES: Mapping[str, type] = {"tiers": Tier, "users": Tier, GLOBAL: Overall}

#: Under which the budget of bandwidth is kept that was set at run time.
SCHEDULE = "bandwidth/schedule/"


class WrongLimit(HaulError):
    """A limit cannot be taken as it is written.

    Attributes:
        field: the place, as `tiers.free.rate`.
    """

    def __init__(self, field: str, detail: str, fix: str, line: int | None = None) -> None:
        where = ", ".join(part for part in (f"line {line}" if line else "", field) if part)
        super().__init__(f"{where}: {detail} ({fix})" if where else f"{detail} ({fix})")
        self.field, self.detail, self.fix = field, detail, fix


def override_key(table: str, name: str, whose: str = "") -> str:
    """Under which a value set at run time is kept; a user's name may hold anything, so it stands last."""
    return f"{table}/{name}/{whose}"


def value(table: str, name: str, raw: Any, path: str) -> Any:
    """The checked value of a field.

    Args:
        table: one of `TABLES`.
        path: of the field's table, for messages.

    Raises:
        WrongLimit: there is no such field, or no such value of it.
    """
    known = field_names(table)
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise WrongLimit(f"{path}.{name}", "there is no such limit", f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}")
    if raw == NONE and name not in ALWAYS:
        return None
    return _CHECKS[name](raw, f"{path}.{name}")


def field_names(table: str) -> list[str]:
    """The limits that a table may have, in the order of the documentation."""
    return [f.name for f in fields(TABLES[table]) if f.name != "name"] if table in TABLES else []


def of_text(table: str, name: str, text: str, path: str) -> Any:
    """The value of a field that was written on a command line: `50`, `0.5`, `2 GiB`, `none`. Raises WrongLimit."""
    for number in (int, float):
        try:
            return value(table, name, number(text), path)
        except ValueError:
            continue
    return value(table, name, text.strip(), path)


def _number(raw: Any, path: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise WrongLimit(path, f"{_shown(raw)} is not a number", 'for example 2.5, without quotes; "none" for no limit')
    if not 0 < raw <= NUMBER_MAX:
        raise WrongLimit(path, f"{_shown(raw)} is out of range", f'more than 0 and at most {NUMBER_MAX:g}; "none" for no limit')
    return float(raw)


def _burst(raw: Any, path: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 1 <= raw <= BURST_MAX:
        raise WrongLimit(path, f"{_shown(raw)} is not a burst", f"a number from 1 to {BURST_MAX:g}, without quotes")
    return float(raw)


def _count(raw: Any, path: str, most: int = int(NUMBER_MAX)) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= most:
        raise WrongLimit(path, f"{_shown(raw)} is not such a number", f"a whole number from 1 to {most}, without quotes")
    return raw


def _weight(raw: Any, path: str) -> int:
    return _count(raw, path, WEIGHT_MAX)


def _bytes(raw: Any, path: str) -> int:
    size = read_size(raw) if isinstance(raw, str) else raw
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= SIZE_MAX:
        raise WrongLimit(path, f"{_shown(raw)} is not a size", 'bytes as a whole number, or a text such as "2 GiB"; "none" for no limit')
    return size


def _bytes_a_second(raw: Any, path: str) -> int:
    return _bytes(raw.removesuffix("/s") if isinstance(raw, str) else raw, path)


def _shown(raw: Any) -> str:
    return repr(raw)[:SHOWN_MAX]


#: Limits that cannot be lifted.
ALWAYS = frozenset({"burst", "requests_burst", "weight"})
_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "rate": _number,
    "burst": _burst,
    "running": _count,
    "queued": _count,
    "weight": _weight,
    "bytes_a_day": _bytes,
    "largest_file": _bytes,
    "bandwidth": _bytes_a_second,
    "requests": _number,
    "requests_burst": _burst,
}
