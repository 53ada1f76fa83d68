"""What the fakes of one test share, as processes share a Redis."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from worker.coordination import places
from worker.coordination.buckets import Level
from worker.coordination.waiting import WaitingIndex


@dataclass(slots=True)
class Message:
    """A message of the intake: `taken_at` None until somebody took it."""

    text: str
    taken_at: float | None = None


@dataclass(slots=True)
class Memory:
    """What all fakes of one test share, as processes share a Redis. A flag is kept with its holder and its end."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    count: int = 0
    intake: dict[str, Message] = field(default_factory=dict)
    parked: deque[str] = field(default_factory=deque)
    flags: dict[str, tuple[str, float]] = field(default_factory=dict)
    begun: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    waiting: WaitingIndex = field(default_factory=WaitingIndex)
    reminders: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, Level] = field(default_factory=dict)
    starts: int = 0
    progress: dict[str, tuple[dict[str, str], float]] = field(default_factory=dict)
    snapshots: dict[str, tuple[str, float]] = field(default_factory=dict)
    advice: dict[str, tuple[str, float]] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    last: str = places.START
    trimmed: bool = False
