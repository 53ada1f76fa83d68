"""Engines that die soon after they were given a job: what becomes of it, of the jobs beside it, and of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pair import Pair
from worker.admission.control import control
from worker.admission.why import why
from worker.jobs.states import Action, Cause, Reason, State, Want
from worker.limits import RECONCILE_S
from worker.suspects import GROUP, WINDOW_S
from worker.tries import TRIES_MAX


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path, slots=64)
    pair.tick()
    yield pair
    pair.services.close()


def die(pair: Pair, name: str = "a", *, keep: bool = True, after_s: float = 1.0) -> None:
    """Let an engine run for a while with what it has, then come back as another process."""
    pair.turn(seconds=after_s)
    pair.engines[name].restart(keep=keep)
    pair.turn(seconds=0.5)


def deaths(pair: Pair, ids: list[str]) -> list[int]:
    return [pair.job(id).engine_deaths for id in ids]


def at_work(pair: Pair, ids: list[str]) -> list[str]:
    return [id for id in ids if pair.job(id).state is State.DOWNLOADING]


@pytest.mark.parametrize("keep", [True, False])
def test_jobs_whose_engine_died_once_go_on_there_at_once_all_together(pair: Pair, keep: bool) -> None:
    ids = pair.ask(40, engine="a")
    pair.admit()
    die(pair, keep=keep)
    pair.turn()
    assert at_work(pair, ids) == ids
    assert {pair.job(id).attempt for id in ids} == {1}
    assert set(deaths(pair, ids)) == {1}


def test_jobs_that_have_run_for_long_are_no_suspects_and_those_at_other_engines_neither(pair: Pair) -> None:
    old, other = pair.ask(3, engine="a"), pair.ask(3, engine="b")
    pair.admit()
    pair.pass_(WINDOW_S)
    new = pair.ask(2, engine="a")
    pair.admit()
    die(pair)
    assert deaths(pair, [*old, *other, *new]) == [0] * 6 + [1] * 2


def test_time_in_which_the_engine_was_away_is_no_time_in_which_a_job_ran(pair: Pair) -> None:
    [id] = pair.ask(engine="a")
    pair.admit()
    with pair.engines["a"].silent():
        pair.pass_(2 * WINDOW_S)
        pair.engines["a"].restart()
    pair.pass_(20)
    assert deaths(pair, [id]) == [1]


def test_an_engine_that_was_silent_and_is_the_same_process_has_not_died(pair: Pair) -> None:
    [id] = pair.ask(engine="a")
    pair.admit()
    with pair.engines["a"].silent():
        pair.pass_(20)
    pair.pass_(20)
    assert deaths(pair, [id]) == [0]


def test_what_is_held_against_a_job_is_dropped_when_it_has_run_well(pair: Pair) -> None:
    [id] = pair.ask(engine="a")
    pair.admit()
    die(pair)
    assert deaths(pair, [id]) == [1]
    owner = pair.owners["a"]
    for _ in range(2):
        pair.pass_(WINDOW_S)
        owner._loaded_at -= RECONCILE_S
    pair.pass_(2)
    assert deaths(pair, [id]) == [0]


def test_suspects_of_two_deaths_are_tried_in_groups_while_others_start_at_once(pair: Pair) -> None:
    ids = pair.ask(GROUP + 3, engine="a")
    pair.admit()
    die(pair)
    die(pair)
    assert {pair.job(id).state for id in ids} == {State.QUEUED}
    assert pair.engines["a"].poll().items == {}, "what it had begun with by itself is taken from it"
    pair.admit()
    tried = at_work(pair, ids)
    assert len(tried) == GROUP
    [waits] = {pair.job(id).reason for id in ids if id not in tried}
    assert waits is Reason.ENGINE
    [waiting, *_] = [id for id in ids if id not in tried]
    assert "an engine died 2 times soon after it was given this job; it is tried with few others" in why(pair.services, waiting).text

    others = pair.ask(5)
    pair.admit()
    assert at_work(pair, others) == others, "nothing is held against these"
    pair.pass_(6)
    pair.admit()
    assert at_work(pair, ids) == ids
    assert {pair.job(id).attempt for id in ids} == {2}


def test_one_that_kills_its_engine_each_time_has_failed_after_four_and_begins_anew_when_it_is_asked_for_again(pair: Pair) -> None:
    [id, *beside] = pair.ask(3, engine="a")
    pair.admit()
    died = 0
    while pair.job(id).state is not State.FAILED:
        pair.admit()
        if id in at_work(pair, [id]):
            die(pair)
            died += 1
        else:
            pair.pass_(6)
            for other in at_work(pair, beside):
                pair.engines["a"].complete(handle(pair, other))
        assert died <= TRIES_MAX
    job = pair.job(id)
    assert (died, job.cause, job.engine_deaths) == (TRIES_MAX, Cause.ENGINE, TRIES_MAX)
    assert job.message == "engines died 4 times, each time soon after they were given this job"
    assert "engines died 4 times" in why(pair.services, id).text
    pair.pass_(70)
    pair.admit()
    assert State.FAILED not in {pair.job(other).state for other in beside}
    assert control(pair.services, id, Action.RETRY).engine_deaths == 0
    pair.admit()
    assert at_work(pair, [id]) == [id]


def handle(pair: Pair, id: str) -> str:
    transfer = pair.job(id).transfer
    assert transfer is not None
    return pair.engines[transfer.engine].handle(transfer.id, transfer.attempt)


def test_a_job_takes_its_deaths_along_to_another_engine_and_fails_there_with_the_fourth(pair: Pair) -> None:
    [id] = pair.ask()
    pair.admit()
    for died in range(1, TRIES_MAX + 1):
        engine = pair.where(id)
        assert engine is not None
        with pair.engines[engine].silent():
            pair.pass_(70)
            assert deaths(pair, [id]) == [died]
        pair.engines[engine].restart(keep=False)
        pair.turn()
        pair.admit()
    assert (pair.job(id).state, pair.job(id).cause) == (State.FAILED, Cause.ENGINE)


def test_a_death_that_a_new_owner_did_not_see_is_nobodys(pair: Pair) -> None:
    [id] = pair.ask(engine="a")
    pair.admit()
    pair.take_over()
    pair.engines["a"].restart()
    pair.turn()
    assert deaths(pair, [id]) == [0]


def test_a_suspect_that_is_to_be_paused_or_cancelled_is_not_queued_again(pair: Pair) -> None:
    paused, cancelled = pair.ask(2, engine="a")
    pair.admit()
    die(pair)
    pair.turn()
    lease = pair.owners["a"]._held.keep()
    assert lease is not None
    control(pair.services, paused, Action.PAUSE)
    control(pair.services, cancelled, Action.CANCEL)
    pair.engines["a"].restart()
    pair.owners["a"]._deaths.seen(lease, pair.engines["a"].poll())
    assert [(pair.job(id).state, pair.job(id).want) for id in (paused, cancelled)] == [
        (State.DOWNLOADING, Want.PAUSE),
        (State.DOWNLOADING, Want.CANCEL),
    ]
    pair.turn(times=3)
    assert [pair.job(id).state for id in (paused, cancelled)] == [State.PAUSED, State.CANCELLED]
