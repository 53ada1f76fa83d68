"""Store time on a machine whose wall clock cannot be trusted."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from worker.store.sqlite import boot_clock
from worker.store.sqlite.boot_clock import Anchor, BootClock


class Machine:
    """A machine with a wall clock and an uptime that a test sets."""

    def __init__(self, boot: str = "first", wall: float = 1_000_000.0, uptime: float = 50.0) -> None:
        self.boot, self.wall, self.uptime = boot, wall, uptime

    def clock(self) -> BootClock:
        return BootClock(self.boot, lambda: self.uptime, lambda: self.wall)


def test_store_time_starts_at_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.at(clock.anchor(None, 0.0))() == machine.wall


@pytest.mark.parametrize("jump", [-500_000.0, 500_000.0])
def test_a_jump_of_the_wall_clock_moves_nothing_in_the_same_boot(jump: float) -> None:
    machine = Machine()
    anchor = machine.clock().anchor(None, 0.0)
    now = machine.clock().at(anchor)
    machine.wall += jump
    machine.uptime += 3
    assert now() == 1_000_003.0
    assert machine.clock().anchor(anchor, now()) == anchor, "a process that starts later reads the same time"


def test_a_new_boot_starts_at_the_wall_clock_when_that_went_on() -> None:
    machine = Machine()
    old = machine.clock().anchor(None, 0.0)
    machine = Machine("second", wall=2_000_000.0, uptime=5.0)
    clock = machine.clock()
    assert clock.at(clock.anchor(old, 1_000_100.0))() == 2_000_000.0


def test_a_new_boot_goes_on_where_the_old_one_was_when_the_wall_clock_fell_back() -> None:
    old = Machine().clock().anchor(None, 0.0)
    clock = Machine("second", wall=0.0, uptime=5.0).clock()
    assert clock.at(clock.anchor(old, 1_000_100.0))() == 1_000_100.0


def test_without_boot_ids_the_anchor_stays_while_time_goes_on() -> None:
    machine = Machine("")
    old = machine.clock().anchor(None, 0.0)
    machine.uptime += 10
    assert machine.clock().anchor(old, 1_000_010.0) == old


def test_without_boot_ids_time_that_would_go_back_starts_a_new_anchor() -> None:
    machine = Machine("")
    old = machine.clock().anchor(None, 0.0)
    machine.uptime, machine.wall = 1.0, 0.0
    clock = machine.clock()
    fresh = clock.anchor(old, 1_000_010.0)
    assert fresh != old
    assert clock.at(fresh)() == 1_000_010.0


def test_two_processes_read_the_same_time_since_boot() -> None:
    before = boot_clock.since_boot()
    code = "from worker.store.sqlite import boot_clock; print(boot_clock.since_boot())"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, cwd=Path(__file__).parents[2]
    )
    assert before <= float(other.stdout) <= boot_clock.since_boot()


def test_a_system_that_tells_no_boot_id_has_an_empty_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(boot_clock, "BOOT_ID_FILE", tmp_path / "none")
    assert boot_clock.boot_id() == ""


def test_a_system_without_a_boot_clock_uses_the_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.monotonic()
    assert before <= boot_clock.since_boot() <= time.monotonic()


def test_an_anchor_of_an_empty_file_is_none_of_ours() -> None:
    clock = Machine("first").clock()
    assert clock.anchor(Anchor("", 0.0), 0.0) == Anchor("first", 999_950.0)
