"""What is promised is read when it may matter, not once a second: it costs as much as there are jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Machine
from tests.unit.test_room import RESERVE, SIZE, SmallDisk, described, free
from worker.jobs.needs import expected
from worker.jobs.states import Reason, State
from worker.supervision import room


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    monkeypatch.setattr("tests.machine.FakeEngine", SmallDisk)
    machine = Machine(tmp_path, space_reserve=RESERVE)
    yield machine
    machine.services.close()


def reads(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that promises are read from now on."""
    seen: list[int] = []
    promised = machine.services.store.promised

    def counted() -> Any:
        seen.append(1)
        return promised()

    monkeypatch.setattr(machine.services.store, "promised", counted)
    return seen


def test_while_there_is_more_than_enough_promises_are_not_read_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    id = machine.ask()
    free(machine, RESERVE + 10 * SIZE)
    machine.tick(3)
    seen = reads(machine, monkeypatch)
    for fallen in range(1, 9):
        free(machine, RESERVE + 10 * SIZE - fallen * SIZE)
        machine.tick(3)
    assert seen == []
    free(machine, RESERVE + SIZE - 1)
    machine.tick()
    assert seen == [1]
    assert machine.job(id).reason is Reason.SPACE, "at once, when there is too little"


def test_what_is_promised_to_others_meanwhile_is_counted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    free(machine, RESERVE + 10**9)
    kept, other = "", machine.ask()
    machine.tick(3)
    kept = described(machine)
    size = expected(machine.job(kept))
    assert size is not None
    seen = reads(machine, monkeypatch)
    free(machine, RESERVE + size + SIZE - 1)
    machine.tick()
    assert seen == [1]
    assert (machine.job(kept).state, machine.job(other).reason) == (State.DOWNLOADING, Reason.SPACE)


def test_what_others_promise_elsewhere_on_the_disk_is_seen_within_seconds(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    id = machine.ask()
    free(machine, RESERVE + 10 * SIZE)
    machine.tick(3)
    rows = machine.services.store.promised()
    more = [replace(row, owed=row.owed + 10 * SIZE) for row in rows]
    monkeypatch.setattr(machine.services.store, "promised", lambda: more)
    monkeypatch.setattr(room.Room, "_owed", lambda *_: {id: 11 * SIZE})
    machine.tick(3)
    assert machine.job(id).state is State.DOWNLOADING
    monkeypatch.setattr(room, "CALM_S", 0.0)
    machine.tick()
    assert machine.job(id).reason is Reason.SPACE
