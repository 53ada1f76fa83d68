"""What each action makes of a job in each state: written down, done already, or refused with words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.admission.control import intended
from worker.jobs.description import Description
from worker.jobs.errors import Conflict
from worker.jobs.model import Job, Result, Transfer, new_job
from worker.jobs.requests import parse
from worker.jobs.states import Action, Cause, Reason, State, Want

TRANSFER = Transfer("t", "a", 1, "/w", 0.0)
HELD = (State.SUBMITTING, State.DOWNLOADING, State.PAUSED, State.FINISHING)


def job(state: State, **changes: object) -> Job:
    held = {"transfer": TRANSFER} if state in HELD else {}
    base = new_job(parse({"uri": "http://host/x", "user": "u"}), 1.0)
    return replace(base, state=state, **{**held, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "action", "becomes", "want"),
    [
        (State.QUEUED, Action.PAUSE, State.PAUSED, Want.PAUSE),
        (State.SUBMITTING, Action.PAUSE, State.SUBMITTING, Want.PAUSE),
        (State.DOWNLOADING, Action.PAUSE, State.DOWNLOADING, Want.PAUSE),
        (State.PAUSED, Action.RESUME, State.QUEUED, Want.RUN),
        (State.QUEUED, Action.CANCEL, State.CANCELLED, Want.CANCEL),
        (State.SUBMITTING, Action.CANCEL, State.SUBMITTING, Want.CANCEL),
        (State.DOWNLOADING, Action.CANCEL, State.DOWNLOADING, Want.CANCEL),
        (State.PAUSED, Action.CANCEL, State.PAUSED, Want.CANCEL),
        (State.FINISHING, Action.CANCEL, State.FINISHING, Want.CANCEL),
        (State.FAILED, Action.RETRY, State.QUEUED, Want.RUN),
        (State.CANCELLED, Action.RETRY, State.QUEUED, Want.RUN),
    ],
)
def test_an_action_is_written_down(state: State, action: Action, becomes: State, want: Want) -> None:
    old = job(state)
    new = intended(old, action, 2.0)
    assert (new.state, new.want, new.version) == (becomes, want, old.version + 1)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (State.DONE, Action.PAUSE),
        (State.FINISHING, Action.PAUSE),
        (State.FAILED, Action.PAUSE),
        (State.DONE, Action.RESUME),
        (State.FAILED, Action.RESUME),
        (State.DONE, Action.CANCEL),
        (State.FAILED, Action.CANCEL),
        (State.DONE, Action.RETRY),
    ],
)
def test_a_state_that_does_not_allow_the_action_is_a_conflict_that_names_it(state: State, action: Action) -> None:
    with pytest.raises(Conflict, match=str(state)):
        intended(job(state), action, 2.0)


@pytest.mark.parametrize("action", [Action.PAUSE, Action.CANCEL])
def test_asking_twice_changes_nothing_the_second_time(action: Action) -> None:
    once = intended(job(State.DOWNLOADING), action, 2.0)
    assert intended(once, action, 3.0) is once


def test_a_resume_before_the_pause_came_true_takes_it_back() -> None:
    pausing = intended(job(State.DOWNLOADING), Action.PAUSE, 2.0)
    assert intended(pausing, Action.RESUME, 3.0).want is Want.RUN


def test_a_cancel_loses_once_the_move_has_begun() -> None:
    with pytest.raises(Conflict, match="moved into place"):
        intended(job(State.FINISHING, result=Result("/p", 1)), Action.CANCEL, 2.0)


def test_a_cancelled_job_is_not_resumed_or_paused() -> None:
    cancelling = job(State.DOWNLOADING, want=Want.CANCEL)
    for action in (Action.PAUSE, Action.RESUME, Action.RETRY):
        with pytest.raises(Conflict, match="cancel asked for"):
            intended(cancelling, action, 2.0)


def test_a_retry_opens_a_new_attempt_and_forgets_the_failure() -> None:
    new = intended(job(State.FAILED, cause=Cause.HTTP, message="503", failures=4, attempt=3), Action.RETRY, 2.0)
    assert (new.attempt, new.failures, new.cause, new.message) == (4, 0, None, None)


@pytest.mark.parametrize(
    ("state", "action"), [(State.PAUSED, Action.RESUME), (State.FAILED, Action.RETRY), (State.CANCELLED, Action.RETRY)]
)
def test_a_torrent_that_is_not_described_yet_waits_for_that_first(state: State, action: Action) -> None:
    by_url = new_job(parse({"uri": "http://host/x.torrent", "user": "u"}), 1.0)
    new = intended(replace(by_url, state=state, transfer=None), action, 2.0)
    assert (new.reason, new.needs_description) == (Reason.DESCRIPTION, True)
    known = Description("d", "x", 5, 1, v1="1" * 40)
    assert intended(replace(by_url, state=state, description=known), action, 2.0).reason is Reason.TURN


def test_a_refused_request_is_not_retried() -> None:
    with pytest.raises(Conflict, match="was refused"):
        intended(job(State.FAILED, cause=Cause.REFUSED, message="bad"), Action.RETRY, 2.0)
