"""What a baseline measures: each figure's name, unit, direction, and by how much it has to change to matter."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: MAD times this is the standard deviation of a normal distribution.
SIGMA_OF_MAD = 1.4826


class Better(StrEnum):
    """Which way is good."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"  # told, never judged: it follows the work there is, or rests on too few samples


@dataclass(frozen=True, slots=True)
class Rule:
    """How a figure is judged.

    Attributes:
        unit: of the figure, and of `absolute`.
        relative: a change of less than this part of what it was is none.
        absolute: nor is one of less than this.
        yardstick: the figure of the machine itself that tells how fast it does this kind of thing just now; None where nothing does.
        meaning: for a person.
    """

    unit: str
    better: Better
    relative: float
    absolute: float
    meaning: str
    yardstick: str | None = None


#: How fast the machine does things just now, by itself, with its other work, and on its disk.
IDLE, BUSY, DISK = "machine.yardstick_ms", "machine.yardstick_p50_ms", "machine.disk_sync_ms"


def _time(absolute: float, meaning: str, yardstick: str = IDLE) -> Rule:
    return Rule("ms", Better.LOWER, 0.2, absolute, meaning, yardstick)


def _told(unit: str, meaning: str) -> Rule:
    return Rule(unit, Better.NEITHER, 0.0, 0.0, meaning)


def _kept(unit: str, absolute: float, meaning: str) -> Rule:
    return Rule(unit, Better.LOWER, 0.5, absolute, meaning)


#: `*` stands for the name of an engine, or of a route. Times of one call are the best of each round, which neighbours disturb least. Their
#: absolute bounds are below a fifth of what a machine takes that has everything by itself and nothing to do; noise bounds them from above.
RULES: Mapping[str, Rule] = {
    "machine.cpu_percent": _told("%", "processor time taken by all programs, of all cores"),
    "machine.load_1m": _told("", "processes that ran or waited to, on average of a minute"),
    "machine.yardstick_ms": _told("ms", "a fixed piece of arithmetic, the best of a round: how fast the machine is just now"),
    "machine.yardstick_p50_ms": _told("ms", "half of the times within: how fast it is with the others that work on it"),
    "machine.memory_used_bytes": _told("bytes", "memory in use, of the machine or the container"),
    "machine.memory_free_bytes": _told("bytes", "memory that programs could still have"),
    "machine.disk_read_bytes_per_s": _told("bytes/s", "read from all disks"),
    "machine.disk_written_bytes_per_s": _told("bytes/s", "written to all disks"),
    "machine.disk_free_bytes": _told("bytes", "free on the volume of the data directory"),
    "machine.disk_sync_ms": _told("ms", "4 KiB written beside the data and synced"),
    "machine.net_received_bytes_per_s": _told("bytes/s", "received by all interfaces but the loopback"),
    "machine.net_sent_bytes_per_s": _told("bytes/s", "sent by them"),
    "processes.count": _told("", "processes of the stack"),
    "processes.memory_bytes": _kept("bytes", 300e6, "memory of the stack's processes, shared pages counted in each"),
    "processes.open_files": _kept("", 300, "open files and sockets of the stack's processes"),
    "processes.threads": _kept("", 100, "threads of the stack's processes"),
    "api.*.best_ms": _time(0.05, "the quickest answer of a round"),
    "api.*.p50_ms": _time(0.1, "half of the requests were answered within", BUSY),
    "api.*.p95_ms": _time(0.35, "19 of 20 requests were answered within", BUSY),
    "api.*.p99_ms": _told("ms", "99 of 100 requests were answered within; rests on the slowest two"),
    "store.read_ms": _time(0.003, "looking up a job by its id"),
    "store.batch_read_ms": _time(0.02, "reading 50 documents of 300 bytes", BUSY),  # takes twice as long beside others
    "store.batch_write_ms": _time(0.2, "writing 50 such documents durably", DISK),
    "store.count_ms": _time(0.005, "counting the jobs by state"),
    "redis.ping_ms": _time(0.008, "one round trip to Redis"),
    "redis.snapshots_ms": _time(0.02, "reading what is shared of the engines"),
    "redis.connections": _kept("", 50, "clients connected to Redis"),
    "redis.memory_bytes": _told("bytes", "memory Redis uses"),
    "cache.entries": _told("", "entries in the cache of this process"),
    "cache.bytes": _told("bytes", "what they take"),
    "cache.shared_entries": _told("", "entries shared through Redis"),
    "cache.shared_bytes": _told("bytes", "what they take"),
    "cache.hit_ratio": _told("", "part of this process's reads that the cache answered"),
    "queue.waiting": _told("", "jobs in the waiting index"),
    "queue.intake": _told("", "messages of the intake"),
    "queue.parked": _told("", "messages put aside"),
    "queue.jobs": _told("", "jobs recorded"),
    "queue.live_jobs": _told("", "jobs that have not ended"),
    "queue.task_ms": _time(10.0, "from sending a task to its begin"),
    "engine.*.rpc_ms": _time(0.1, "asking the engine for all its downloads"),
    "engine.*.items": _told("", "downloads at the engine"),
    "tests.run": _told("", "tests that ran"),
    "tests.failed": Rule("", Better.LOWER, 0.0, 0.5, "tests that failed or broke"),
    "tests.skipped": _told("", "tests that were left out"),
    "tests.seconds": _told("s", "how long the suite took"),
    "capture.cpu_ms": _told("ms", "processor time of this capture itself"),
}


def rule(name: str) -> Rule:
    """The rule of a figure; one that another version made is only told."""
    first, _, rest = name.partition(".")
    return RULES.get(name) or RULES.get(f"{first}.*.{rest.rpartition('.')[2]}") or _told("", "not known to this version")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a capture: the middle of repeated samples, or why there is none.

    Attributes:
        mad: median distance of the samples from their median; the noise within this capture.
        n: samples, each of them one round of several calls for times.
        size: what the samples were measured on (records, downloads); figures of different sizes are not compared.
        absent: why it could not be had; then the others mean nothing.
    """

    median: float = 0.0
    mad: float = 0.0
    n: int = 0
    size: float | None = None
    absent: str | None = None

    @staticmethod
    def of(samples: Sequence[float], size: float | None = None) -> Figure:
        """The figure of these samples; at least one."""
        middle = statistics.median(samples)
        return Figure(middle, statistics.median(abs(sample - middle) for sample in samples), len(samples), size)

    @staticmethod
    def none(why: str) -> Figure:
        """No figure."""
        return Figure(absent=why)

    @property
    def error(self) -> float:
        """The standard error of the median, as the spread of its samples tells it; 0 for a single one."""
        return 1.2533 * SIGMA_OF_MAD * self.mad / self.n**0.5 if self.n else 0.0

    def document(self, name: str) -> dict[str, Any]:
        """For JSON; six digits are more than any of them is good for."""
        unit = rule(name).unit
        if self.absent is not None:
            return {"unit": unit, "absent": self.absent}
        sized = {} if self.size is None else {"size": self.size}
        return {"unit": unit, "median": float(f"{self.median:.6g}"), "mad": float(f"{self.mad:.6g}"), "n": self.n, **sized}

    @staticmethod
    def read(document: Mapping[str, Any]) -> Figure:
        """The figure of a document. Raises KeyError, TypeError or ValueError for what is none."""
        if "absent" in document:
            return Figure(absent=str(document["absent"]))
        size = document.get("size")
        found = Figure(
            finite(document["median"]), finite(document["mad"]), int(finite(document["n"])), None if size is None else finite(size)
        )
        if found.n < 0:
            raise ValueError("samples are none or some")
        return found


def finite(value: Any) -> float:
    """The number of a document: JSON as others write it has NaN and infinities, too. Raises TypeError or ValueError for what is none."""
    if not isinstance(value, int | float | str) or not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number
