"""The table of moves, held against a second writing of it: any difference is a decision, not a slip."""

from __future__ import annotations

from itertools import product

import pytest

from tests.unit.jobs_by_hypothesis import NOW, a_job
from worker.jobs.states import AT_ENGINE, IN_SLOT, LIVE, TERMINAL, TRANSITIONS, State, check

ALLOWED = {
    "queued": "submitting finishing paused cancelled failed",
    "submitting": "downloading queued paused cancelled failed",
    "downloading": "finishing paused queued submitting cancelled failed",
    "paused": "queued cancelled finishing failed",
    "finishing": "done queued cancelled failed",
    "done": "",
    "failed": "queued",
    "cancelled": "queued",
}


@pytest.mark.parametrize(("old", "new"), list(product(State, State)), ids=lambda state: state.value)
def test_a_job_goes_where_the_table_says_and_nowhere_else(old: State, new: State) -> None:
    job = a_job(state=old)
    if old == new or new.value in ALLOWED[old].split():
        moved = job.moved(new, NOW, "moved")
        assert (moved.state, moved.version) == (new, job.version + 1)
    else:
        with pytest.raises(ValueError, match=f"from {old} to {new}"):
            check(old, new)
        with pytest.raises(ValueError, match=f"from {old} to {new}"):
            job.moved(new, NOW, "moved")


def test_every_move_says_what_causes_it() -> None:
    assert all(cause.strip() for cause in TRANSITIONS.values())


def test_every_state_can_be_reached_and_every_live_state_can_end() -> None:
    assert {new for _, new in TRANSITIONS} == set(State)
    for state in LIVE:
        assert {new for old, new in TRANSITIONS if old == state} & TERMINAL


def test_the_sets_of_states_fit_together() -> None:
    assert set(State) == LIVE | TERMINAL
    assert IN_SLOT < AT_ENGINE < LIVE


def test_done_never_changes() -> None:
    assert not [new for old, new in TRANSITIONS if old is State.DONE]
