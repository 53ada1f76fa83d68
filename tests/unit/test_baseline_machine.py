"""The machine: what a container is held to, and processes that come and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.maintenance.baseline import machine

GIB = 1024**3


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_a_container_has_the_cores_and_memory_of_its_control_group(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        cpu_dot_max="50000 100000",
        memory_dot_max=str(GIB),
        memory_dot_current=str(GIB // 2),
        memory_dot_stat="inactive_file 4096",
    )
    assert machine.about(root)["cores"] == 0.5
    assert machine.about(root)["memory_gib"] == 1
    assert machine.memory(root) == (GIB, GIB // 2 - 4096)


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        cpu__cpu_dot_cfs_quota_us="70000",
        cpu__cpu_dot_cfs_period_us="100000",
        memory__memory_dot_limit_in_bytes=str(GIB),
        memory__memory_dot_usage_in_bytes=str(GIB),
        memory__memory_dot_stat="total_inactive_file 1024",
    )
    assert machine.about(root)["cores"] == 0.7
    assert machine.memory(root) == (GIB, GIB - 1024)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpu_dot_max": "max 100000", "memory_dot_max": "max", "memory_dot_current": "5"},
        {"cpu__cpu_dot_cfs_quota_us": "-1", "memory__memory_dot_limit_in_bytes": "9223372036854771712"},
    ],
)
def test_without_a_limit_it_is_the_machine(tmp_path: Path, files: dict[str, str]) -> None:
    root = write(tmp_path, **files)
    assert machine.about(root)["cores"] == len(os.sched_getaffinity(0))
    total, used = machine.memory(root)
    assert 0 < used < total


def test_rates_come_with_the_second_look(tmp_path: Path) -> None:
    meter = machine.Meter(tmp_path)
    assert not set(meter.read()) & set(machine.RATES)
    second = meter.read()
    assert set(second) <= set(machine.GAUGES)
    assert all(value >= 0 for value in second.values())


def test_processes_are_counted_with_their_children_and_the_dead_left_out() -> None:
    read = machine.processes([os.getpid(), 2**22 + 7])
    seen = read()
    assert set(seen) == set(machine.PROCESSES)
    assert all(value >= 1 for value in seen.values())
    with pytest.raises(ProcessLookupError, match="no process 4194311"):
        machine.processes([2**22 + 7])()


def test_a_sync_of_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    machine.disk_sync(tmp_path)()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        machine.disk_sync(tmp_path / "none")()
