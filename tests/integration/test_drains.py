"""Engines taken out of work and back: the steps over two engines in memory, a real store and real files, moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import services_of
from tests.pair import Pair
from worker import pipeline
from worker.admission.control import control
from worker.delivery.finish import finish
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.errors import NotFound
from worker.jobs.model import SourceKind
from worker.jobs.states import Action, Reason, State
from worker.ports import Features
from worker.store.sqlite.store import SqliteStore

HTTP_ALONE = Features(kinds=frozenset({SourceKind.HTTP}))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    pair.tick()
    yield pair
    pair.services.close()


def test_a_drained_engine_gets_nothing_new_and_what_it_has_goes_on_to_its_end(pair: Pair) -> None:
    first = pair.ask_one(engine="a")
    pair.admit()
    pipeline.drain(pair.services, "a")
    others = [pair.ask_one() for _ in range(4)]
    pair.admit()
    assert {pair.where(id) for id in others} == {"b"}
    assert pair.where(first) == "a"
    assert pair.state("a") == "draining"
    pair.engines["a"].advance(1 << 20)
    pair.tick()
    assert pair.state("a") == "draining", "it is not in place yet"
    finish(pair.services, 100)
    assert pair.job(first).state is State.DONE
    assert (pair.state("a"), pair.state("b")) == ("drained", "up")


def test_a_job_that_may_only_run_there_waits_and_says_so_until_it_is_taken_back(pair: Pair) -> None:
    pipeline.drain(pair.services, "a")
    named = pair.ask_one(engine="a")
    pair.admit()
    assert (pair.job(named).state, pair.job(named).reason) == (State.QUEUED, Reason.ENGINE)
    answer = pipeline.why(pair.services, named)
    assert "engine a is being drained" in answer.text
    assert answer.reason == "engine"
    pipeline.undrain(pair.services, "a")
    pair.now += 5
    pair.admit()
    assert pair.where(named) == "a"


def test_it_is_still_drained_after_redis_lost_everything_and_all_processes_were_started_again(pair: Pair, tmp_path: Path) -> None:
    pipeline.drain(pair.services, "a", move=True)
    before = pair.services.store.drains()
    pair.services.close()
    pair.services = services_of(tmp_path, SqliteStore(tmp_path / "haul.db", lambda: pair.now), [*pair.engines.values()])
    pair.take_over()
    pair.now += 60
    pair.tick()
    ids = [pair.ask_one() for _ in range(3)]
    pair.admit()
    assert {pair.where(id) for id in ids} == {"b"}
    assert pair.services.store.drains() == before


def test_with_move_what_runs_there_is_fetched_anew_by_the_other_and_nothing_of_it_is_left(pair: Pair) -> None:
    ids = [pair.ask_one(engine=None) for _ in range(6)]
    pair.admit()
    there = [id for id in ids if pair.where(id) == "a"]
    assert there, "both have some"
    pair.engines["a"].advance(100)
    pair.tick()
    pipeline.drain(pair.services, "a", move=True)
    pair.tick()
    moved = pair.job(there[0])
    assert (moved.state, moved.reason, moved.attempt, moved.failures) == (State.QUEUED, Reason.ENGINE, 2, 0)
    assert moved.progress.done == 0
    assert "engine a is being drained" in moved.events[-1].text
    assert pair.engines["a"].poll().items == {}
    assert not list((pair.directory / "a" / ".haul").glob("*"))
    pair.admit()
    for _ in range(3):
        pair.engines["b"].advance(1 << 20)
        pair.tick()
        finish(pair.services, 100)
        pair.admit()
    assert {pair.job(id).state for id in ids} == {State.DONE}
    assert pair.state("a") == "drained"


def test_with_move_what_no_other_engine_can_fetch_stays(pair: Pair) -> None:
    pair.engines["b"].features = HTTP_ALONE  # type: ignore[misc]
    magnet, named, free = pair.ask_one(kind=SourceKind.MAGNET), pair.ask_one(engine="a"), pair.ask_one()
    pair.admit()
    pipeline.drain(pair.services, "a", move=True)
    pair.tick(3)
    pair.admit()
    assert (pair.where(magnet), pair.where(named), pair.where(free)) == ("a", "a", "b")


def test_with_move_nothing_is_stopped_while_no_other_engine_answers(pair: Pair) -> None:
    id = pair.ask_one(engine=None)
    pair.admit()
    here = pair.where(id)
    assert here
    other = "b" if here == "a" else "a"
    pipeline.drain(pair.services, here, move=True)
    snapshot = pair.services.coordinator.snapshots()[other]
    owner = next(owner for owner in pair.owners.values() if owner.engine.name == here)
    pair.services.coordinator.put_snapshot(replace(snapshot, error="no answer in time"))
    owner._drained._looked_at = float("-inf")
    lease = owner._held.keep()
    assert lease is not None
    owner.tick(lease)
    assert pair.where(id) == here


def test_what_was_paused_there_goes_on_elsewhere_when_it_is_resumed(pair: Pair) -> None:
    id = next(id for id in [pair.ask_one(), pair.ask_one()] if pair.admit() is None and pair.where(id) == "a")
    control(pair.services, id, Action.PAUSE)
    pair.tick(2)
    assert pair.job(id).state is State.PAUSED
    pipeline.drain(pair.services, "a")
    control(pair.services, id, Action.RESUME)
    pair.admit()
    assert (pair.where(id), pair.job(id).attempt) == ("b", 2)
    owner = pair.owners["a"]
    owner._loaded_at = float("-inf")
    pair.tick(3)
    assert pair.engines["a"].poll().items == {}, "what it still had is removed"
    assert pair.where(id) == "b"


def test_a_supervisor_that_dies_between_record_and_engine_leaves_nothing_behind(pair: Pair) -> None:
    ids = [pair.ask_one() for _ in range(2)]
    pair.admit()
    [id] = [id for id in ids if pair.where(id) == "a"]
    pair.services = replace(pair.services, failpoints=Failpoints("departure.recorded:raise:1"))
    pair.take_over()
    pipeline.drain(pair.services, "a", move=True)
    with pytest.raises(FailpointHit):
        pair.tick()
    assert pair.job(id).state is State.QUEUED
    assert len(pair.engines["a"].poll().items) == 1, "the engine was not told"
    pair.take_over()
    pipeline.sweep(pair.services)
    pair.tick(3)
    assert pair.engines["a"].poll().items == {}
    pair.admit()
    assert pair.where(id) == "b"


def test_draining_is_said_twice_and_the_last_word_counts(pair: Pair) -> None:
    for _ in range(2):
        pipeline.drain(pair.services, "a")
    assert (pair.shown("a")["state"], pair.shown("a")["move"]) == ("drained", False)
    pipeline.drain(pair.services, "a", move=True)
    assert pair.shown("a")["move"] is True
    for _ in range(2):
        pipeline.undrain(pair.services, "a")
    assert pair.state("a") == "up"


def test_an_engine_that_does_not_exist_is_refused_with_the_names_there_are(pair: Pair) -> None:
    for ask in (pipeline.drain, pipeline.undrain):
        with pytest.raises(NotFound, match=r"no engine 'c' \(one of: a, b\)"):
            ask(pair.services, "c")
    assert pair.services.store.drains() == {}


def test_an_engine_that_is_drained_may_be_away_and_nothing_is_wrong(pair: Pair) -> None:
    assert pipeline.away_on_purpose(pair.services) == set()
    pipeline.drain(pair.services, "a")
    assert pipeline.away_on_purpose(pair.services) == {"a"}


def test_a_process_that_does_not_see_the_volume_leaves_complete_jobs_to_others(pair: Pair) -> None:
    id = pair.ask_one(engine="a")
    pair.admit()
    pair.engines["a"].advance(1 << 20)
    pair.tick()
    away, empty = pair.directory / "elsewhere", pair.directory / "a"
    empty.rename(away)
    for mounted in (False, True):
        if mounted:
            empty.mkdir()  # the place where it should be mounted
        finish(pair.services, 100)
        assert (pair.job(id).state, pair.job(id).attempt) == (State.FINISHING, 1)
    empty.rmdir()
    away.rename(empty)
    finish(pair.services, 100)
    assert pair.job(id).state is State.DONE
