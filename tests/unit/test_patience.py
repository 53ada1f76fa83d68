"""How long a step is tried again."""

from __future__ import annotations

import pytest

from worker.jobs.errors import Transient
from worker.patience import NAP_S, PATIENCE_S, PAUSE_S, PAUSE_S_MAX, Patience
from worker.ports import Hopeless


class Clock:
    """Time that passes in sleeps, and in steps that fail."""

    def __init__(self) -> None:
        self.now, self.naps = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


class Step:
    """Fails so often."""

    def __init__(self, clock: Clock, fails: int, takes_s: float = 0.0, error: type[Transient] = Transient) -> None:
        self.clock, self.fails, self.takes_s, self.error, self.tried_at = clock, fails, takes_s, error, []

    def __call__(self) -> str:
        self.tried_at.append(self.clock.now)
        if len(self.tried_at) > self.fails:
            return "done"
        self.clock.now += self.takes_s
        raise self.error("store", "the connection broke")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def patience(clock: Clock, told: list[str], for_s: float = PATIENCE_S) -> Patience:
    return Patience(told.append, for_s, lambda: clock.now, clock.sleep)


def test_a_step_that_failed_is_tried_again_after_longer_and_longer_pauses_and_why_is_told(clock: Clock) -> None:
    told: list[str] = []
    step = Step(clock, 8)
    assert patience(clock, told).tried(step) == "done"
    pauses = [after - before for before, after in zip(step.tried_at, step.tried_at[1:], strict=False)]
    assert pauses == pytest.approx([PAUSE_S, 1, 2, 4, 8, PAUSE_S_MAX, PAUSE_S_MAX, PAUSE_S_MAX])
    assert set(told) == {"the connection broke, trying again"}
    assert len(told) == len(clock.naps)
    assert max(clock.naps) <= NAP_S


def test_no_try_begins_after_the_time_is_up_and_the_error_says_how_long_it_was_tried(clock: Clock) -> None:
    step = Step(clock, 1_000)
    with pytest.raises(Transient, match=r"store: the connection broke; tried again for 3\d s"):
        patience(clock, [], 40).tried(step)
    assert step.tried_at[-1] <= 40


def test_a_try_that_took_longer_than_the_time_is_repeated_all_the_same(clock: Clock) -> None:
    step = Step(clock, 1, takes_s=100)
    assert patience(clock, [], 40).tried(step) == "done"


def test_what_will_be_refused_again_is_not_tried_again(clock: Clock) -> None:
    step = Step(clock, 1, error=Hopeless)
    with pytest.raises(Hopeless):
        patience(clock, []).tried(step)
    assert len(step.tried_at) == 1


def test_who_gave_up_once_does_not_wait_for_what_is_left(clock: Clock) -> None:
    patient = patience(clock, [], 40)
    with pytest.raises(Transient):
        patient.tried(Step(clock, 1_000))
    last = Step(clock, 1_000)
    with pytest.raises(Transient):
        patient.tried(last)
    assert len(last.tried_at) == 1


def test_what_a_wait_raises_ends_it(clock: Clock) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Patience(stop, 40, lambda: clock.now, clock.sleep).tried(Step(clock, 5))
