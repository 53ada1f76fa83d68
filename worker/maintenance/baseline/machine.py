"""The machine and the stack's processes, through psutil; in a container, what its control group may have.

psutil sees the host: processor time, load, disks and interfaces are of all that runs there (an interface: of the container's own
network). Cores and memory are those of the container where it is held to fewer.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

GIB = 1024**3
CGROUP = Path("/sys/fs/cgroup")
#: "No limit" of the first version of control groups is a number no machine has.
UNLIMITED = 1 << 60
SYNC_BYTES = 4096
#: About two milliseconds of a processor of our days.
YARDSTICK_STEPS = 20_000

RATES = (
    "machine.disk_read_bytes_per_s",
    "machine.disk_written_bytes_per_s",
    "machine.net_received_bytes_per_s",
    "machine.net_sent_bytes_per_s",
)
GAUGES = (
    "machine.cpu_percent",
    "machine.load_1m",
    "machine.memory_used_bytes",
    "machine.memory_free_bytes",
    "machine.disk_free_bytes",
    *RATES,
)
PROCESSES = ("processes.count", "processes.memory_bytes", "processes.open_files", "processes.threads")


def about(root: Path = CGROUP) -> dict[str, Any]:
    """What figures depend on most: cores (0.1), memory (GiB, rounded), architecture."""
    return {
        "cores": round(min(len(os.sched_getaffinity(0)), _cores_held_to(root) or float("inf")), 1),
        "memory_gib": round(memory(root)[0] / GIB),
        "architecture": platform.machine(),
    }


def memory(root: Path = CGROUP) -> tuple[int, int]:
    """Bytes of memory there are, and that are used without what the kernel gives back when asked to."""
    seen = psutil.virtual_memory()
    limit, used = _memory_held_to(root)
    return (limit, used) if limit and limit < seen.total else (seen.total, seen.total - seen.available)


def yardstick() -> None:
    """A fixed piece of arithmetic, which takes as long as this process is kept from working."""
    value = 1
    for step in range(YARDSTICK_STEPS):
        value = (value * 31 + step) & 0xFFFF_FFFF


def disk_sync(directory: Path) -> Callable[[], None]:
    """Writes a few bytes beside the data and waits until they are on the disk; leaves nothing behind."""
    path = directory / f".sync-{os.getpid()}"

    def write() -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, b"\0" * SYNC_BYTES)
            os.fsync(handle)
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)

    return write


class Meter:
    """Reads the machine; rates are of the time since the reading before.

    Args:
        volume: a directory of the data's volume.
    """

    def __init__(self, volume: Path) -> None:
        self._volume = volume
        self._before: tuple[float, Mapping[str, float]] | None = None

    def read(self) -> dict[str, float]:
        """`GAUGES`, those that this machine tells; no rates the first time."""
        total, used = memory()
        free = psutil.disk_usage(str(self._volume)).free
        found = {
            "machine.cpu_percent": psutil.cpu_percent(None),
            "machine.load_1m": psutil.getloadavg()[0],
            "machine.memory_used_bytes": float(used),
            "machine.memory_free_bytes": float(total - used),
            "machine.disk_free_bytes": float(free),
        }
        now, counts = time.monotonic(), _counts()
        if self._before and (past := now - self._before[0]) > 0:
            found |= {name: max(0.0, (counts[name] - was) / past) for name, was in self._before[1].items() if name in counts}
        self._before = (now, counts)
        return found


def processes(pids: Sequence[int]) -> Callable[[], dict[str, float]]:
    """Reads `PROCESSES` of these and all that descend from them; raises OSError when none of them runs."""

    def read() -> dict[str, float]:
        running = _with_children(pids)
        sums = dict.fromkeys(PROCESSES, 0.0)
        for process in running:
            try:
                with process.oneshot():
                    seen = (1.0, float(process.memory_info().rss), float(process.num_fds()), float(process.num_threads()))
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                raise PermissionError(f"process {process.pid} belongs to another user") from None
            sums = {name: sums[name] + more for name, more in zip(PROCESSES, seen, strict=True)}
        if not sums["processes.count"]:
            raise ProcessLookupError(f"no process {', '.join(map(str, pids))}")
        return sums

    return read


def _with_children(pids: Sequence[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found |= {each.pid: each for each in (process, *process.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def _counts() -> dict[str, float]:
    disks = psutil.disk_io_counters()
    nets = [counts for name, counts in psutil.net_io_counters(pernic=True).items() if name != "lo"]
    read = () if disks is None else (disks.read_bytes, disks.write_bytes)
    sent = (sum(each.bytes_recv for each in nets), sum(each.bytes_sent for each in nets)) if nets else ()
    return dict(zip(RATES[:2], read, strict=False)) | dict(zip(RATES[2:], sent, strict=False))


def _cores_held_to(root: Path) -> float | None:
    quota, _, period = _text(root / "cpu.max").partition(" ")
    if not quota:  # the first version
        quota, period = _text(root / "cpu" / "cpu.cfs_quota_us"), _text(root / "cpu" / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory_held_to(root: Path) -> tuple[int | None, int]:
    limit, used, stat = _text(root / "memory.max"), _text(root / "memory.current"), _text(root / "memory.stat")
    if not limit:
        first = root / "memory"
        limit, used, stat = (_text(first / f"memory.{name}") for name in ("limit_in_bytes", "usage_in_bytes", "stat"))
    given_back = next(
        (int(line.split()[1]) for line in stat.splitlines() if line.startswith(("inactive_file ", "total_inactive_file "))), 0
    )
    if not limit.isdigit() or not used.isdigit() or int(limit) >= UNLIMITED:
        return None, 0
    return int(limit), max(0, int(used) - given_back)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
