"""When something is due: crontab expressions in a time zone, both changes of the clock included, and what the ledger leaves to do; pure.

A slot is one time at which a work is due. Its name is that time in UTC, so that all beats and machines agree on it. As in Debian's cron,
a fixed time of day comes once on every day: one that the clock skips comes when the clock goes on, of one that comes twice the first
counts. What comes every hour goes by real hours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim

from worker.ports import Run

#: A slot is begun again so often when its process died, or a service was away.
TRIES_MAX = 3
#: After a service was away; after a death the lease has run out by then.
AGAIN_S = 300.0
#: Missed slots of one work that are written down at once; the oldest of them says how many there were before.
MISSED_MAX = 100
#: Nobody looks for slots from before that; longer than the longest period.
BACK_DAYS = 400
#: The line of the ledger from which on a work is due. It is its first, and no run.
BORN = "born"
#: By so much the wall clocks of two machines may differ. What was written later than that was written by a clock that was wrong, and
#: keeps nothing from being done when its time comes.
SKEW_S = 120.0
#: How far back the latest slot is looked for, the shortest first.
_LOOKS_BACK = tuple(timedelta(days=days) for days in (2, 63, BACK_DAYS))
_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Entry:
    """A work and when it is due; `beat_schedule.CLOCK` says what the fields mean."""

    name: str
    cron: str
    window_s: float
    lane: str
    zone: ZoneInfo
    first: bool = False
    at_start: bool = False

    def slots(self, after: float, until: float) -> Iterator[float]:
        """The times it is due, after the one and up to the other; wall clock, ascending, none twice."""
        last = after
        # A time of day is found by counting local time, which must not begin in the second of two equal hours, or behind a gap.
        back = timedelta(hours=0 if self.cron.split()[1].startswith("*") else 26)
        for at in CronSim(self.cron, datetime.fromtimestamp(after, UTC).astimezone(self.zone) - back):
            moment = at.timestamp()
            if moment > until:
                return
            if moment > last:
                last = moment
                yield moment

    def latest(self, now: float) -> float | None:
        """The last time it was due; None when it was not for `BACK_DAYS`."""
        for back in _LOOKS_BACK:
            if found := deque(self.slots(now - back.total_seconds(), now), maxlen=1):
                return found[0]
        return None

    def next(self, now: float) -> float | None:
        """When it is due again; None when it is not for `BACK_DAYS`."""
        return next(self.slots(now, now + BACK_DAYS * 86_400.0), None)


def entries(data: Mapping[str, Mapping[str, Any]], zone: str) -> dict[str, Entry]:
    """What `beat_schedule.CLOCK` says, in a time zone.

    Raises:
        CronSimError: an expression is none.
    """
    made = {name: Entry(name=name, zone=ZoneInfo(zone), **values) for name, values in data.items()}
    for entry in made.values():
        CronSim(entry.cron, datetime(2024, 1, 1, tzinfo=UTC))
    return made


def slot_name(at: float) -> str:
    """The slot of a wall-clock time."""
    return datetime.fromtimestamp(at, UTC).strftime(_FORM)


def slot_time(slot: str) -> float | None:
    """When a slot was due, whichever try it is; None for runs that no clock asked for."""
    due = slot.partition("#")[0]
    try:
        return datetime.fromisoformat(due).timestamp() if due.endswith("Z") else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about one work.

    Attributes:
        newborn: the ledger does not know it; what was due until now is none of its.
        missed: slots to write down as missed, oldest first; `before` counts those that were missed earlier still.
        due: the slot to take now.
        begun: slots that were taken and have not ended; of a dead process once its lane is free.
    """

    newborn: bool = False
    missed: tuple[str, ...] = ()
    before: int = 0
    due: str | None = None
    begun: tuple[str, ...] = ()


def plan(entry: Entry, lines: Sequence[Run], now: float, store_now: float, *, all_lines: bool) -> Plan:
    """What the ledger leaves to do.

    Args:
        lines: of this work, newest first; `all_lines` when there are no others.
        now: wall clock; `store_now` is the store's.
    """
    begun = tuple(line.slot for line in lines if line.ended_at is None)
    believed = [line for line in lines if _is_believed(line, now)]
    since = _since(believed, lines, all_lines=all_lines)
    if since is None:
        return Plan(newborn=True, begun=begun)
    unknown = list(entry.slots(max(since, now - BACK_DAYS * 86_400.0), now))
    if not unknown:
        return Plan(due=None if begun else _again(entry, believed, lines, now, store_now), begun=begun)
    *late, newest = unknown
    due = now - newest <= entry.window_s
    late = late if due else unknown
    missed = tuple(slot_name(at) for at in late[-MISSED_MAX:])
    return Plan(missed=missed, before=len(late) - len(missed), due=_untaken(newest, lines) if due else None, begun=begun)


def is_birth(slot: str) -> bool:
    """True for lines that say from when on a work is due."""
    return slot.partition("#")[0] == BORN


def _is_believed(line: Run, now: float) -> bool:
    """Whether the clock that wrote a line down was right, as far as ours tells: a slot is never taken before its time has come.

    One that was taken by a wrong clock may have ended by the right one.
    """
    return max(float(line.report.get("at", now)), slot_time(line.slot) or now) <= now + SKEW_S


def _since(believed: Sequence[Run], lines: Sequence[Run], *, all_lines: bool) -> float | None:
    """Up to when every slot is known; None when nothing is."""
    known = [at for line in believed if (at := slot_time(line.slot)) is not None]
    known += [float(line.report.get("since", line.started_at)) for line in believed if is_birth(line.slot)]
    if known:
        return max(known)
    return None if all_lines else lines[-1].started_at


def _again(entry: Entry, believed: Sequence[Run], lines: Sequence[Run], now: float, store_now: float) -> str | None:
    """The newest slot once more, when it came to no end of its own; under another name, so that each try is taken once."""
    newest = max((at for line in believed if (at := slot_time(line.slot)) is not None and at <= now), default=None)
    if newest is None or now - newest > entry.window_s:
        return None
    tries = [line for line in believed if slot_time(line.slot) == newest]
    last = tries[0]
    if len(tries) >= TRIES_MAX or last.ok or not last.report.get("again"):
        return None
    if not last.report.get("died") and store_now - (last.ended_at or 0.0) < AGAIN_S:
        return None
    return _untaken(newest, lines)


def _untaken(at: float, lines: Sequence[Run]) -> str:
    """The slot of that time under a name that has no line yet."""
    tries = sum(slot_time(line.slot) == at for line in lines)
    return f"{slot_name(at)}#{tries + 1}" if tries else slot_name(at)
