"""Jobs at an engine that no process knows any more go to another one, after a minute; none is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pair import Pair
from worker.admission.control import control
from worker.delivery.finish import finish
from worker.jobs.model import SourceKind
from worker.jobs.states import Action, Reason, State
from worker.ports import Change, FixedPool
from worker.supervision.relocation.abandoned import ABANDONED_S, Abandoned


class Without(Pair):
    """The pair after `a` was taken out of the settings and everything was started again; `clock` is monotonic."""

    clock = 0.0

    def take_out(self) -> None:
        for owner in self.owners.values():
            owner._held.release()
        self.services = replace(self.services, engines={"b": self.engines["b"]}, owner="new")
        self.engines = {"b": self.engines["b"]}
        self.take_over()
        self.abandoned = Abandoned(self.services, lambda: self.clock)

    def later(self, seconds: float = ABANDONED_S) -> int:
        """What the sweeper moves on after this time."""
        self.abandoned.look()
        self.clock += seconds
        return self.abandoned.look()

    def run(self, ids: list[str]) -> None:
        """To the end of all."""
        for _ in range(6):
            self.admit()
            self.engines["b"].advance(1 << 20)
            self.tick()
            finish(self.services, 100)
        assert [self.job(id).state for id in ids] == [State.DONE] * len(ids)

    def at_a(self, n: int, kind: SourceKind = SourceKind.HTTP) -> list[str]:
        """So many jobs that `a` downloads."""
        ids = [self.ask_one(kind=kind) for _ in range(2 * n)]
        self.admit()
        there = [id for id in ids if self.where(id) == "a"]
        assert len(there) >= n
        return there


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Without]:
    pair = Without(tmp_path)
    pair.tick()
    yield pair
    pair.services.close()


def test_after_a_minute_what_it_downloaded_is_fetched_by_another_and_not_before(pair: Without) -> None:
    ids = pair.at_a(2)
    pair.take_out()
    assert pair.later(ABANDONED_S - 1) == 0
    assert [pair.job(id).state for id in ids] == [State.DOWNLOADING] * len(ids)
    assert pair.later(2) == len(ids)
    job = pair.job(ids[0])
    assert (job.state, job.reason, job.attempt, job.failures) == (State.QUEUED, Reason.ENGINE, 2, 0)
    assert "engine a is not set up any more" in job.events[-1].text
    pair.run(ids)


def test_while_somebody_else_looks_after_it_nothing_is_touched(pair: Without) -> None:
    [id, *_] = pair.at_a(1)
    pair.take_out()
    lease = pair.services.store.acquire_lease("engine:a", "a process that knows it", 1e6)
    assert lease is not None
    assert pair.later(10 * ABANDONED_S) == 0
    assert pair.job(id).state is State.DOWNLOADING
    pair.services.store.release_lease(lease)
    assert pair.later(ABANDONED_S - 1) == 0, "the minute begins when it is nobody's"
    assert pair.later(2) >= 1


def test_while_the_list_of_engines_cannot_be_read_nothing_is_touched(pair: Without) -> None:
    [id, *_] = pair.at_a(1)
    pair.take_out()
    pair.services = replace(pair.services, pool=FixedPool(fault="line 3"))
    pair.abandoned = Abandoned(pair.services, lambda: pair.clock)
    assert pair.later(10 * ABANDONED_S) == 0
    assert pair.job(id).state is State.DOWNLOADING


def test_wishes_are_followed_without_the_engine(pair: Without) -> None:
    cancelled, paused, paused_before, *_ = pair.at_a(3)
    control(pair.services, paused_before, Action.PAUSE)
    pair.tick(2)
    pair.take_out()
    control(pair.services, cancelled, Action.CANCEL)
    control(pair.services, paused, Action.PAUSE)
    pair.later()
    states = [pair.job(id).state for id in (cancelled, paused, paused_before)]
    assert states == [State.CANCELLED, State.PAUSED, State.PAUSED]
    assert not (pair.directory / "a" / ".haul" / cancelled).exists()
    control(pair.services, paused, Action.RESUME)
    control(pair.services, paused_before, Action.RESUME)
    pair.run([paused, paused_before])


def test_a_paused_job_there_can_be_cancelled(pair: Without) -> None:
    [id, *_] = pair.at_a(1)
    control(pair.services, id, Action.PAUSE)
    pair.tick(2)
    pair.take_out()
    control(pair.services, id, Action.CANCEL)
    pair.later()
    assert pair.job(id).state is State.CANCELLED


def test_a_complete_file_is_put_in_place_without_the_engine_that_fetched_it(pair: Without) -> None:
    ids = pair.at_a(2)
    pair.engines["a"].advance(1 << 20)
    pair.tick()
    assert pair.job(ids[0]).state is State.FINISHING
    pair.take_out()
    finish(pair.services, 100)
    assert [pair.job(id).state for id in ids] == [State.DONE] * len(ids)
    assert all(pair.job(id).attempt == 1 for id in ids)


def test_what_cannot_be_verified_without_the_engine_is_fetched_again(pair: Without) -> None:
    ids = pair.at_a(1, SourceKind.MAGNET)
    pair.engines["a"].advance(1 << 20)
    pair.tick()
    pair.take_out()
    finish(pair.services, 100)
    assert pair.job(ids[0]).state is State.FINISHING, "it waits for the engine, and has not failed"
    assert pair.later() >= 1
    pair.run(ids)


def test_a_torrent_that_seeded_there_seeds_no_more_and_its_file_stays(pair: Without) -> None:
    id = pair.at_a(1, SourceKind.MAGNET)[0]
    job = pair.job(id)
    pair.services.store.apply([Change(job, replace(job, seed_ratio=2.0, version=job.version + 1))])
    pair.engines["a"].advance(1 << 20)
    pair.engines["a"]._work[pair.engines["a"].handle(id, 1)].seeding = True
    pair.tick()
    finish(pair.services, 100)
    assert pair.job(id).seeding
    pair.take_out()
    assert pair.later() == 1
    done = pair.job(id)
    assert (done.state, done.seeding) == (State.DONE, False)
    assert done.result is not None
    assert Path(done.result.path).is_file()


def test_what_no_other_engine_can_fetch_stays_and_waits_for_its_engine(pair: Without) -> None:
    id = pair.ask_one(engine="a")
    pair.admit()
    assert pair.where(id) == "a"
    pair.take_out()
    assert pair.later(10 * ABANDONED_S) == 0
    assert pair.job(id).state is State.DOWNLOADING


def test_who_waits_for_what_was_paused_there_gets_it_from_another(pair: Without) -> None:
    [leader, *_] = pair.at_a(1, SourceKind.MAGNET)
    control(pair.services, leader, Action.PAUSE)
    pair.tick(2)
    [follower] = pair.ask_again(leader)
    pair.take_out()
    pair.admit()
    assert pair.job(leader).reason is Reason.DUPLICATE, "it is asked to let go"
    pair.later()
    pair.run([follower])
    assert (pair.job(leader).state, pair.job(leader).transfer) == (State.PAUSED, None)


def test_nothing_is_left_of_what_could_not_be_verified_there(pair: Without) -> None:
    [id, *_] = pair.at_a(1, SourceKind.MAGNET)
    pair.engines["a"].advance(1 << 20)
    pair.tick()
    work = pair.directory / "a" / ".haul" / id
    assert (pair.job(id).state, work.exists()) == (State.FINISHING, True)
    pair.take_out()
    pair.later()
    assert (pair.job(id).attempt, work.exists()) == (2, False)
