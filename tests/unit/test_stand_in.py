"""Who looks at the clock while no beat does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.machine import Machine
from worker import wiring
from worker.celery.bootsteps import SupervisorStep
from worker.coordination.fake import FakeCoordinator
from worker.maintenance.stand_in import MISSED_S, StandIn, looked


class Stage:
    """Two sweepers, each every ten seconds, over one Redis."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.coordinator = FakeCoordinator(clock=lambda: self.now)
        self.looks: list[float] = []
        self.sweepers = [StandIn(self.coordinator, lambda: self.looks.append(self.now), lambda: self.now) for _ in range(2)]

    def run(self, seconds: float, *, beat: bool = False) -> None:
        """For so long, with a beat that has the clock looked at each minute or without."""
        for ten in range(round(seconds / 10)):
            if beat and ten % 6 == 0:
                looked(self.coordinator)
            for sweeper in self.sweepers:
                sweeper.stand_in()
            self.now += 10.0


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_while_a_beat_has_the_clock_looked_at_nobody_else_does(stage: Stage) -> None:
    stage.run(3_600.0, beat=True)
    assert stage.looks == []


def test_without_a_beat_one_of_all_sweepers_looks_and_again_after_a_time(stage: Stage) -> None:
    stage.run(3_600.0, beat=True)
    died = stage.now
    stage.run(600.0)
    gaps = [later - former for former, later in zip([died, *stage.looks], stage.looks, strict=False)]
    assert gaps[0] <= MISSED_S
    assert set(gaps[1:]) == {MISSED_S}


@pytest.mark.parametrize("without_s", [100.0, 130.0, 150.0, 180.0, 240.0])
def test_once_the_beat_is_back_nobody_else_looks(stage: Stage, without_s: float) -> None:
    stage.run(600.0, beat=True)
    stage.run(without_s)
    assert stage.looks
    stage.looks.clear()
    stage.run(3_600.0, beat=True)
    assert stage.looks == []


def test_a_sweeper_that_has_just_begun_leaves_beat_the_time_to_begin(stage: Stage) -> None:
    stage.run(MISSED_S - 10.0)
    assert stage.looks == []
    stage.run(20.0)
    assert len(stage.looks) == 1


def test_the_sweeper_of_a_supervisor_that_is_told_how_looks_at_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = 0.0, []
    monkeypatch.setattr(StandIn.__init__, "__defaults__", (lambda: now,))
    machine = Machine(tmp_path)
    supervisor = wiring.build_supervisor(machine.services, lambda: looks.append(now))
    supervisor._sweep_once()
    now = MISSED_S
    supervisor._sweep_once()
    assert looks == [MISSED_S]


@pytest.mark.parametrize("lasting", [True, False])
def test_a_supervisor_inside_a_worker_stands_in_unless_its_end_is_near(lasting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, list[object]]] = []
    given: list[Callable[[], object] | None] = []
    monkeypatch.setattr(wiring, "build_supervisor", lambda _, look: given.append(look) or SimpleNamespace(start=lambda: None))
    app = SimpleNamespace(services=SimpleNamespace(get=lambda: None), send_task=lambda name, arguments, **_: sent.append((name, arguments)))
    parent = SimpleNamespace(app=app, pool_cls=SimpleNamespace(__module__="celery.concurrency.thread"))
    SupervisorStep(parent, supervise=True, lasting=lasting).start(parent)
    [look] = given
    assert (look is not None) == lasting
    if look is not None:
        look()
    assert sent == ([("haul.clock", [])] if lasting else [])
