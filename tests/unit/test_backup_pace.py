"""How fast a backup may go, and that it gives way."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest

from worker.maintenance.backup import pace
from worker.maintenance.backup.pace import NAP_S, STEP_S_MAX, Pace, yield_to_others

MIB = 1024 * 1024


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Clocks that only sleeping and the test move."""
    at = SimpleNamespace(now=100.0, naps=[], thread_time=0.0)

    def sleep(seconds: float) -> None:
        at.naps.append(seconds)
        at.now += seconds

    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: at.now, thread_time=lambda: at.thread_time, sleep=sleep))
    return at


def test_bytes_go_no_faster_than_allowed_and_no_sleep_is_long(clock: SimpleNamespace) -> None:
    limited = Pace(10 * MIB)
    for _ in range(40):
        limited.spend(MIB)
    assert clock.now - 100.0 == pytest.approx(4.0, abs=1.1)
    assert max(clock.naps) <= NAP_S


def test_what_was_not_used_is_not_saved_up(clock: SimpleNamespace) -> None:
    limited = Pace(10 * MIB)
    clock.now += 3600
    begun = clock.now
    limited.spend(100 * MIB)
    assert clock.now - begun >= 8.5


def test_without_a_bound_nobody_sleeps_and_progress_is_told(clock: SimpleNamespace) -> None:
    told: list[tuple[str, int, int]] = []
    free = Pace(0, lambda *what: told.append(what))
    free.begin("writing", 8 * MIB)
    clock.now += 1
    free.spend(5 * MIB)
    assert told == [("writing", 0, 8 * MIB), ("writing", 5 * MIB, 8 * MIB)]
    assert clock.naps == []


def test_the_thread_of_a_backup_gives_way_and_no_other_does() -> None:
    seen: list[int] = []

    def work() -> None:
        yield_to_others()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert seen == [max(before, 10)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_thread_takes_no_more_of_a_processor_than_its_share(clock: SimpleNamespace) -> None:
    clock.thread_time = 50.0
    shared = Pace(share=0.1)
    begun = clock.now
    for _ in range(100):
        clock.now += 0.002
        clock.thread_time += 0.002
        shared.spend(0)
    assert clock.now - begun == pytest.approx(2.0)


def test_what_a_thread_waited_for_counts_as_rest_and_one_long_step_keeps_nobody_for_long(clock: SimpleNamespace) -> None:
    clock.thread_time = 50.0
    shared = Pace(share=0.1)
    clock.now += 5.0
    clock.thread_time += 0.1
    shared.spend(0)
    assert clock.naps == []
    clock.thread_time += 30.0
    shared.spend(0)
    assert sum(clock.naps) == pytest.approx(STEP_S_MAX)
