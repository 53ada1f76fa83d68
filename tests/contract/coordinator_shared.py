"""What processes show each other: progress, snapshots, starts, advice."""

from __future__ import annotations

from tests.contract.coordinator_suite import CoordinatorFixtures, Make, snapshot
from tests.waiting import until
from worker.jobs.model import Progress
from worker.ports import Coordinator


class SharedSuite(CoordinatorFixtures):
    def test_progress_is_replaced_as_a_whole(self, redis: Coordinator) -> None:
        rows = {"a": Progress(1, None, 3, 4, 5), "b": Progress(2**60, 2**61)}
        redis.put_progress("aria2", rows)
        redis.put_progress("other", {"c": Progress(9)})
        assert redis.progress({"aria2": ["a", "b", "x"], "other": ["c"], "none": ["d"], "empty": []}) == {**rows, "c": Progress(9)}
        redis.put_progress("aria2", {"b": Progress(3)})
        assert redis.progress({"aria2": ["a", "b"]}) == {"b": Progress(3)}
        redis.put_progress("aria2", {})
        assert redis.progress({"aria2": ["a", "b"], "other": ["c"]}) == {"c": Progress(9)}
        assert redis.progress({}) == {}

    def test_snapshots_are_shared_until_they_run_out(self, make: Make) -> None:
        a, b = make(), make(snapshot_s=0.05)
        assert a.snapshots() == {}
        assert not a.put_snapshot(snapshot("aria2")), "nobody could see it before"
        assert a.put_snapshot(snapshot("aria2", speed=8, error="it is gone"))
        assert not b.put_snapshot(snapshot("brief"))
        assert b.snapshots()["aria2"] == snapshot("aria2", speed=8, error="it is gone")
        shared = snapshot("aria2", share=2048, limit=1024, budgets={"tier:free": {"hungry": 2, "wants": 0.5}}, unheld=1, budget="2 KiB")
        assert a.put_snapshot(shared)
        assert b.snapshots()["aria2"] == shared
        until(lambda: set(a.snapshots()) == {"aria2"})

    def test_starts_are_counted_over_all_processes_and_asking_counts_none(self, make: Make) -> None:
        a, b = make(), make()
        assert (a.count_starts(), a.count_starts(3), b.count_starts(2), b.count_starts(), a.count_starts()) == (0, 0, 3, 5, 5)

    def test_the_advice_of_each_process_is_its_last(self, make: Make) -> None:
        one, other = make(), make()
        assert one.advice() == {}
        one.put_advice("a", {"findings": [1]})
        other.put_advice("b", {"findings": [2]})
        one.put_advice("a", {"findings": []})
        assert other.advice() == {"a": {"findings": []}, "b": {"findings": [2]}}

    def test_the_advice_of_the_oldest_processes_makes_room(self, redis: Coordinator) -> None:
        for number in range(60):
            redis.put_advice(f"p{number}", {"number": number})
        assert set(redis.advice()) == {f"p{number}" for number in range(10, 60)}
