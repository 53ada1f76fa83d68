"""An engine that does not answer, or fails by its own fault: what becomes of its jobs, and how it is trusted again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pair import Pair
from worker.admission.control import control
from worker.admission.why import overview, why
from worker.breaker import Breaker, Circuit
from worker.jobs.states import Action, Cause, Reason, State
from worker.ports import Fault
from worker.supervision.health import probe_pause_s

BROKEN = Fault(Cause.DISK, False, "the disk is read-only", elsewhere=True)
UNABLE = Fault(Cause.UNSUPPORTED, False, "it cannot read this kind of torrent", elsewhere=True)
ABSENT = Fault(Cause.NOT_FOUND, False, "there is no such file")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    pair.turn()
    yield pair
    pair.services.close()


def circuit(pair: Pair, engine: str = "a") -> Breaker:
    return pair.services.store.breakers().get(engine, Breaker())


def shown(pair: Pair, engine: str = "a") -> dict[str, object]:
    return next(row for row in overview(pair.services)["engines"] if row["name"] == engine)


def handle(pair: Pair, id: str, attempt: int | None = None) -> str:
    job = pair.job(id)
    assert job.transfer is not None
    return pair.engines[job.transfer.engine].handle(job.transfer.id, attempt or job.attempt)


def test_the_jobs_of_a_dead_engine_end_on_the_other_and_what_it_had_goes_when_it_is_back(pair: Pair) -> None:
    ids = pair.ask(12)
    pair.admit()
    assert pair.at(ids).count("a") == 6
    pair.engines["a"].advance(300)
    pair.turn()
    with pair.engines["a"].silent():
        pair.pass_(44)
        assert pair.at(ids).count("a") == 6, "a restart takes so long"
        pair.pass_(15)
        moved = [id for id in ids if pair.job(id).attempt == 2]
        assert len(moved) == 6
        assert {(pair.job(id).state, pair.job(id).reason) for id in moved} == {(State.QUEUED, Reason.ENGINE)}
        assert all("a has not answered for" in pair.job(id).events[-1].text for id in moved)
        pair.admit()
        assert pair.at(ids) == ["b"] * 12
        assert {job.engine: job.whole for job in pair.services.store.promised()}.keys() == {"b"}
        for id in ids:
            pair.engines["b"].complete(handle(pair, id))
        pair.turn()
        pair.finish()
        assert {pair.job(id).state for id in ids} == {State.DONE}
    assert len(pair.engines["a"].poll().items) == 6
    pair.pass_(20)
    assert pair.engines["a"].poll().items == {}, "no record asks for them"
    assert not os.listdir(Path(pair.engines["a"].directory, ".haul"))


def test_what_a_revived_engine_kept_of_jobs_that_run_elsewhere_goes_and_theirs_goes_on(pair: Pair) -> None:
    [id] = pair.ask()
    pair.admit()
    pair.engines["a"].advance(300)
    with pair.engines["a"].silent():
        pair.pass_(60)
        pair.admit()
    pair.engines["b"].advance(10)
    pair.pass_(20)
    assert pair.engines["a"].poll().items == {}
    work = {name: Path(engine.directory, ".haul", id, name).exists() for name, engine in pair.engines.items()}
    assert work == {"a": False, "b": True}
    pair.engines["b"].complete(handle(pair, id))
    pair.turn()
    pair.finish()
    assert pair.job(id).state is State.DONE


def test_an_engine_that_is_back_in_time_keeps_its_jobs_and_their_attempts(pair: Pair) -> None:
    ids = pair.ask(4)
    pair.admit()
    with pair.engines["a"].silent():
        pair.pass_(30)
    pair.engines["a"].restart(keep=False)
    pair.pass_(15)
    assert sorted(pair.at(ids)) == ["a", "a", "b", "b"]
    assert {(pair.job(id).state, pair.job(id).attempt) for id in ids} == {(State.DOWNLOADING, 1)}


def test_an_engine_that_is_back_gets_one_job_and_more_after_that_showed_that_it_works(pair: Pair) -> None:
    with pair.engines["a"].silent():
        pair.pass_(60)
        assert shown(pair)["breaker"] == Circuit.OPEN
    ids = pair.ask(1, engine="a") + pair.ask(1, engine="a")
    pair.admit()
    assert pair.at(ids) == ["", ""], "nothing before it has answered"
    pair.pass_(15)
    assert circuit(pair).state is Circuit.HALF_OPEN
    pair.admit()
    assert sorted(pair.at(ids)) == ["", "a"]
    waits = ids[pair.at(ids).index("")]
    assert "all 1 slots of a are taken; a is tried with one job after failures" in why(pair.services, waits).text
    pair.turn()
    pair.engines["a"].advance(300)
    pair.turn()
    assert (circuit(pair).state, circuit(pair).level) == (Circuit.CLOSED, 0)
    pair.admit()
    assert pair.at(ids) == ["a", "a"]


def test_a_job_that_was_to_run_there_waits_and_says_why(pair: Pair) -> None:
    runs, waits = pair.ask(1, engine="a")[0], pair.ask(1)[0]
    pair.admit()
    late = pair.ask(1, engine="a")[0]
    with pair.engines["a"].silent():
        pair.pass_(60)
        assert (pair.job(runs).state, pair.job(runs).attempt, pair.at([runs, waits])) == (State.DOWNLOADING, 1, ["a", "b"])
        told = why(pair.services, runs).text
        assert "a has not answered for" in told
        assert "asked for by name" in told
        assert "a has not answered for" in why(pair.services, late).text
    pair.pass_(20)
    pair.engines["a"].complete(handle(pair, runs))
    pair.turn()
    pair.finish()
    assert pair.job(runs).state is State.DONE


def test_jobs_stay_where_they_are_when_no_other_engine_is_there_and_move_when_one_comes(pair: Pair) -> None:
    ids = pair.ask(2)
    pair.admit()
    with pair.engines["a"].silent():
        with pair.engines["b"].silent():
            pair.pass_(70)
            assert {pair.job(id).attempt for id in ids} == {1}
        pair.pass_(35)
        assert sorted(pair.job(id).attempt for id in ids) == [1, 2]


def test_users_may_pause_resume_and_cancel_what_a_dead_engine_has(pair: Pair) -> None:
    pair.services.engines["b"].slots = 1
    pauses, cancels, resumes = pair.ask(3, engine="a")
    pair.admit()
    control(pair.services, resumes, Action.PAUSE)
    pair.turn(times=2)
    assert pair.job(resumes).state is State.PAUSED
    pair.engines["a"].advance(300)
    with pair.engines["a"].silent():
        pair.pass_(60)
        control(pair.services, pauses, Action.PAUSE)
        control(pair.services, cancels, Action.CANCEL)
        pair.turn()
        assert [pair.job(id).state for id in (pauses, cancels)] == [State.PAUSED, State.CANCELLED]
    pair.pass_(40)
    items = pair.engines["a"].poll().items
    assert len(items) == 2, "the cancelled one is removed"
    assert {str(item.status) for item in items.values()} == {"paused"}
    assert not Path(pair.engines["a"].directory, ".haul", cancels).exists()


def test_a_paused_job_stays_with_a_dead_engine_and_goes_elsewhere_when_it_is_resumed(pair: Pair) -> None:
    ids = pair.ask(2)
    pair.admit()
    [paused] = [id for id in ids if pair.at([id]) == ["a"]]
    control(pair.services, paused, Action.PAUSE)
    pair.turn(times=2)
    with pair.engines["a"].silent():
        pair.pass_(60)
        assert (pair.job(paused).state, pair.at([paused])) == (State.PAUSED, ["a"])
        control(pair.services, paused, Action.RESUME)
        pair.turn()
        pair.admit()
        assert (pair.job(paused).state, pair.at([paused]), pair.job(paused).attempt) == (State.DOWNLOADING, ["b"], 2)


def test_who_waits_for_the_download_of_another_goes_on_waiting_when_that_moves(pair: Pair) -> None:
    [leader] = pair.ask()
    pair.admit()
    follower = pair.services.store.get(pair.ask_again(leader))
    [waiting] = follower
    pair.admit()
    assert pair.job(waiting).following == leader
    with pair.engines["a"].silent():
        pair.pass_(60)
        assert pair.job(leader).attempt == 2
        assert pair.job(waiting).following == leader
        pair.admit()
        pair.engines["b"].complete(handle(pair, leader))
        pair.turn()
        pair.finish()
        pair.finish()
        assert {pair.job(leader).state, pair.job(waiting).state} == {State.DONE}


def test_what_is_complete_and_cannot_be_put_in_place_without_its_engine_is_fetched_elsewhere(pair: Pair) -> None:
    ids = pair.ask(2)
    pair.admit()
    [complete] = [id for id in ids if pair.at([id]) == ["a"]]
    pair.engines["a"].complete(handle(pair, complete))
    pair.turn()
    assert pair.job(complete).state is State.FINISHING
    with pair.engines["a"].silent():
        pair.turn()
        pair.finish()
        assert pair.job(complete).state is State.FINISHING
        assert "a does not answer" in why(pair.services, complete).text
        pair.pass_(60)
        pair.admit()
        pair.engines["b"].complete(handle(pair, complete))
        pair.turn()
        pair.finish()
    job = pair.job(complete)
    assert (job.state, job.attempt, job.failures) == (State.DONE, 2, 0)
    pair.pass_(20)
    assert pair.engines["a"].poll().items == {}


def test_a_file_that_is_complete_is_put_in_place_without_its_engine(pair: Pair) -> None:
    [id] = pair.ask(1, uri="http://host/file")
    pair.admit()
    pair.engines["a"].complete(handle(pair, id))
    pair.turn()
    with pair.engines["a"].silent():
        pair.pass_(60)
        assert (pair.job(id).state, pair.job(id).attempt) == (State.FINISHING, 1)
        pair.finish()
        assert pair.job(id).state is State.DONE


def test_a_torrent_that_seeds_at_a_dead_engine_is_done_and_stays_so(pair: Pair) -> None:
    [id] = pair.ask(1, seed_ratio=2.0)
    pair.admit()
    pair.engines["a"].complete(handle(pair, id))
    pair.turn()
    pair.finish()
    before = pair.job(id)
    assert (before.state, before.seeding) == (State.DONE, True)
    with pair.engines["a"].silent():
        pair.pass_(60)
        assert pair.job(id) == before


def fail(pair: Pair, fault: Fault, times: int, engine: str = "a") -> None:
    """Have so many downloads at an engine fail, one after the other."""
    for _ in range(times):
        [id] = pair.ask(1, engine=engine)
        pair.admit()
        if pair.at([id]) != [engine]:
            return
        pair.engines[engine].fail(handle(pair, id), fault)
        pair.turn()


def test_an_engine_that_fails_its_downloads_in_a_row_rests_longer_each_time_and_the_other_gets_the_jobs(pair: Pair) -> None:
    fail(pair, BROKEN, 4)
    assert circuit(pair).state is Circuit.CLOSED
    fail(pair, BROKEN, 1)
    pair.turn()
    assert (circuit(pair).state, circuit(pair).level) == (Circuit.HALF_OPEN, 1), "the first rest takes no time"
    fail(pair, BROKEN, 1)
    assert (circuit(pair).state, circuit(pair).level) == (Circuit.OPEN, 2)
    ids = pair.ask(4)
    pair.admit()
    assert pair.at(ids) == ["b"] * 4
    [waits] = pair.ask(1, engine="a")
    pair.admit()
    assert "rests for another" in why(pair.services, waits).text
    assert "rests for another" in str(shown(pair)["trouble"])
    pair.pass_(60)
    assert circuit(pair).state is Circuit.HALF_OPEN


def test_what_else_fails_while_an_engine_rests_is_not_held_against_its_next_try(pair: Pair) -> None:
    ids = pair.ask(20, engine="a")
    pair.admit()
    for id in ids[:5]:
        pair.engines["a"].fail(handle(pair, id), BROKEN)
    pair.turn()
    pair.engines["a"].fail(handle(pair, ids[5]), BROKEN)
    pair.turn(times=2)
    assert (circuit(pair).state, circuit(pair).level) == (Circuit.OPEN, 2)
    for id in ids[6:]:
        pair.engines["a"].fail(handle(pair, id), BROKEN)
    pair.pass_(62)
    assert (circuit(pair).state, circuit(pair).level) == (Circuit.HALF_OPEN, 2)


def test_faults_of_sources_open_nothing_and_one_download_that_ends_well_breaks_the_row(pair: Pair) -> None:
    fail(pair, ABSENT, 6)
    fail(pair, UNABLE, 6)
    fail(pair, BROKEN, 4)
    [id] = pair.ask(1, engine="a")
    pair.admit()
    pair.engines["a"].complete(handle(pair, id))
    pair.turn()
    fail(pair, BROKEN, 4)
    assert circuit(pair) == Breaker()


def test_orders_that_an_engine_refuses_by_its_own_fault_count(pair: Pair) -> None:
    for number in range(1, 8):
        pair.engines["a"].refusals[f"magnet:?xt=urn:btih:{number:040x}"] = BROKEN
    for _ in range(5):
        pair.ask(1, engine="a")
        pair.admit()
    pair.turn()
    assert circuit(pair).level == 1


def test_each_download_that_ends_well_takes_a_level_off(pair: Pair) -> None:
    lease = pair.services.store.acquire_lease("engine:a", "test", 1e6)
    assert lease is not None
    pair.owners["a"]._health._keep(lease, Breaker(Circuit.CLOSED, 2, 0.0))
    ids = pair.ask(3, engine="a")
    pair.admit()
    for id, level in zip(ids, (1, 0, 0), strict=True):
        pair.engines["a"].complete(handle(pair, id))
        pair.turn()
        assert circuit(pair).level == level


def test_a_quarter_of_an_hour_of_silence_is_some_hundred_looks_and_no_orders(pair: Pair) -> None:
    pair.ask(2)
    pair.admit()
    before = dict(pair.engines["a"].calls)
    with pair.engines["a"].silent():
        pair.turn("a", times=900)
    calls = {verb: pair.engines["a"].calls[verb] - before.get(verb, 0) for verb in pair.engines["a"].calls}
    assert 60 < calls["poll"] < 130, calls
    assert sum(calls.values()) == calls["poll"], calls


def test_looks_become_rare_and_never_cease() -> None:
    pauses = [probe_pause_s(silent) for silent in (0.0, 10.0, 40.0, 100.0, 1e6)]
    assert pauses == [0, 1, 4, 10, 15]


def test_the_next_owner_goes_on_with_what_the_one_before_knew(pair: Pair) -> None:
    ids = pair.ask(2)
    pair.admit()
    with pair.engines["a"].silent():
        pair.pass_(40)
        assert circuit(pair).silent_since is not None
        pair.owners["a"]._held.release()
        pair.owners["a"] = pair.owner("a", "another")
        pair.pass_(15)
        assert sorted(pair.job(id).attempt for id in ids) == [1, 2], "45 s in all"


def test_the_space_of_a_moved_job_is_owed_in_full_where_it_goes(pair: Pair) -> None:
    [id] = pair.ask()
    pair.admit()
    pair.engines["a"].advance(600)
    pair.now += 6
    pair.owners["a"]._allocation._looked_at = pair.owners["a"]._board._stored_at = float("-inf")
    pair.owners["a"]._allocation._measured_at.clear()
    pair.turn()
    assert pair.job(id).progress.allocated > 0
    with pair.engines["a"].silent():
        pair.pass_(60)
    assert (pair.job(id).progress.allocated, pair.job(id).progress.total) == (0, 1_000)


def test_metrics_show_the_state_of_the_breaker(pair: Pair) -> None:
    def state() -> dict[str, float]:
        [family] = [f for f in pair.services.metrics.registry.collect() if f.name == "haul_engine_breaker"]
        return {sample.labels["state"]: sample.value for sample in family.samples if sample.labels["engine"] == "a"}

    assert state() == {"closed": 1, "open": 0, "half-open": 0}
    with pair.engines["a"].silent():
        pair.pass_(20)
    assert state() == {"closed": 0, "open": 1, "half-open": 0}
