"""Progress is kept back for a moment, and of each job the last value is written."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.contract.store_jobs import WAIT_S, a_job, admitted, until
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.model import Progress
from worker.jobs.states import State
from worker.metrics import Metrics
from worker.ports import Lease
from worker.store.held import HeldProgress, Holding
from worker.store.meter import Meter

LEASE, OTHER = Lease("engine:a", "me", 1, 10.0), Lease("engine:b", "me", 1, 10.0)
ONE, TWO, THREE = Progress(1), Progress(2), Progress(3)


class Store:
    def __init__(self) -> None:
        self.written: list[tuple[str, dict[str, Progress]]] = []
        self.error: Exception | None = None

    def write(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        if self.error:
            raise self.error
        self.written.append((lease.name, dict(rows)))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def held(store: Store, metrics: Metrics, **bounds: float) -> HeldProgress:
    return HeldProgress(store.write, Holding(**{"hold_s": 600.0, **bounds}), Meter(metrics, "progress"))  # type: ignore[arg-type]


def test_the_first_is_written_at_once_and_of_what_follows_the_last_value_of_each_job(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics)
    progress.put({"a": ONE}, LEASE)
    assert store.written == [("engine:a", {"a": ONE})]
    for row in (TWO, ONE, THREE):
        progress.put({"a": row, "b": row}, LEASE)
    assert len(store.written) == 1
    assert metrics.registry.get_sample_value("haul_store_batch_buffered", {"kind": "progress"}) == 2
    progress.flush()
    assert store.written[1:] == [("engine:a", {"a": THREE, "b": THREE})]
    progress.flush()
    assert len(store.written) == 2
    progress.close()


def test_so_many_jobs_are_written_without_waiting(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics, rows=3)
    progress.put({"x": ONE}, LEASE)
    progress.put({"a": ONE, "b": ONE}, LEASE)
    assert len(store.written) == 1
    progress.put({"c": TWO}, LEASE)
    assert store.written[1:] == [("engine:a", {"a": ONE, "b": ONE, "c": TWO})]
    progress.close()


def test_after_a_moment_it_is_written_by_itself(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics, hold_s=0.2)
    progress.put({"a": ONE}, LEASE)
    progress.put({"a": TWO}, LEASE)
    until(lambda: store.written == [("engine:a", {"a": ONE}), ("engine:a", {"a": TWO})])
    progress.close()


def test_each_lease_has_its_own(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics)
    for lease in (LEASE, OTHER):
        progress.put({"x": ONE}, lease)
        progress.put({lease.name: ONE}, lease)
    progress.flush_of(["engine:b"])
    assert store.written[2:] == [("engine:b", {"engine:b": ONE})]
    progress.flush_of(["of nobody"])
    assert len(store.written) == 3
    progress.close()
    assert store.written[3:] == [("engine:a", {"engine:a": ONE})]


def test_what_is_kept_is_shown_but_not_of_a_job_that_ended_or_went_elsewhere(store: Store, metrics: Metrics) -> None:
    progress, job = held(store, metrics), admitted(a_job("k"), "a")
    progress.put({}, LEASE)
    progress.put({job.id: TWO}, LEASE)
    assert progress.shown([job])[0].progress == TWO
    ended = job.moved(State.CANCELLED, 1.0, "cancelled")
    assert progress.shown([ended]) == [ended]
    assert progress.shown([a_job("other")]) == [a_job("other")]
    elsewhere = admitted(a_job("k"), "b")
    assert progress.shown([elsewhere]) == [elsewhere]
    progress.flush()
    assert progress.shown([job]) == [job]
    progress.close()


def test_a_store_that_is_away_gets_it_later_with_what_came_meanwhile(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics, hold_s=0.2)
    progress.put({"x": ONE}, LEASE)
    store.error = Transient("store", "away")
    progress.put({"a": ONE, "b": ONE}, LEASE)
    with pytest.raises(Transient):
        progress.flush()
    progress.put({"a": TWO}, LEASE)
    store.error = None
    until(lambda: len(store.written) == 2)
    assert store.written[1] == ("engine:a", {"a": TWO, "b": ONE})
    progress.close()


def test_more_than_is_kept_at_most_is_refused(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics, rows=2, rows_max=3)
    progress.put({"x": ONE}, LEASE)
    store.error = Transient("store", "away")
    with pytest.raises(Transient, match="away"):
        progress.put({"a": ONE, "b": ONE, "c": ONE}, LEASE)
    with pytest.raises(Transient, match="3 jobs waits for it"):
        progress.put({"d": ONE}, LEASE)
    store.error = None
    progress.close()
    assert store.written[1:] == [("engine:a", {"a": ONE, "b": ONE, "c": ONE})]


def test_a_lost_lease_drops_what_is_kept_and_fails_what_is_written_at_once(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics)
    progress.put({"x": ONE}, LEASE)
    progress.put({"a": ONE}, LEASE)
    store.error = LeaseLost("store", "gone")
    progress.flush()
    store.error = None
    progress.flush()
    assert len(store.written) == 1
    assert metrics.registry.get_sample_value("haul_store_batch_failures_total", {"kind": "progress", "outcome": "dropped"}) == 1
    store.error = LeaseLost("store", "gone")
    with pytest.raises(LeaseLost):
        progress.put({"b": ONE}, OTHER)
    with pytest.raises(LeaseLost):
        progress.put({}, LEASE)
    progress.close()


def test_closing_writes_what_is_kept_and_ends_its_timer(store: Store, metrics: Metrics) -> None:
    progress = held(store, metrics)
    progress.put({"a": ONE}, LEASE)
    progress.put({"a": TWO}, LEASE)
    timer = progress._timer
    progress.close()
    assert store.written[-1] == ("engine:a", {"a": TWO})
    assert timer is not None
    timer.join(WAIT_S)
    assert not timer.is_alive()
    progress.put({"a": THREE}, LEASE)
    assert store.written[-1] == ("engine:a", {"a": THREE})


@pytest.mark.parametrize("bounds", [{"rows": 0}, {"rows": 5, "rows_max": 4}])
def test_a_bound_that_is_none_is_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="rows is"):
        Holding(**bounds)
