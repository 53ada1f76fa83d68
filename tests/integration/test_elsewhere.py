"""A job whose engine failed it goes to another one, and takes nothing of it along."""

from __future__ import annotations

from pathlib import Path

from tests.pair import Pair
from worker import pipeline
from worker.jobs.model import Progress
from worker.jobs.states import Cause, State
from worker.ports import Fault


def test_what_one_engine_allocated_counts_for_nothing_at_the_next(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.tick()
    id = pair.ask_one()
    pair.admit()
    first = pair.where(id)
    assert first is not None
    [owner] = [owner for owner in pair.owners.values() if owner.engine.name == first]
    lease, transfer = owner._held.keep(), pair.job(id).transfer
    assert lease is not None
    assert transfer is not None
    pair.services.store.record_progress({id: Progress(100, 1_000, allocated=700)}, lease)
    pair.engines[first].fail(
        pair.engines[first].handle(transfer.id, transfer.attempt), Fault(Cause.ENGINE, passing=False, detail="it cannot", elsewhere=True)
    )
    pair.tick()
    assert (pair.job(id).state, pair.job(id).avoid) == (State.QUEUED, (first,))
    pair.now += 5.0
    pair.admit()
    job = pair.job(id)
    assert job.transfer is not None
    assert job.transfer.engine != first
    assert (job.progress.allocated, job.progress.total) == (0, 1_000), "all of it is owed on the other's volume"
    [promised] = pair.services.store.promised()
    assert (promised.engine, promised.owed) == (job.transfer.engine, 1_000)
    pair.services.store.close()


def test_a_job_does_not_count_on_an_engine_that_is_given_nothing(tmp_path: Path) -> None:
    fault = Fault(Cause.ENGINE, passing=False, detail="it cannot", elsewhere=True)
    pair = Pair(tmp_path)
    pair.tick()
    pipeline.drain(pair.services, "b")
    id = pair.ask_one()
    pair.admit()
    transfer = pair.job(id).transfer
    assert transfer is not None
    pair.engines["a"].fail(pair.engines["a"].handle(transfer.id, transfer.attempt), fault)
    pair.turn()
    job = pair.job(id)
    assert (job.state, job.message) == (State.FAILED, "it cannot"), "the other one would not have taken it"
    pair.services.store.close()
