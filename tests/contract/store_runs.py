"""The ledger of the works by the clock."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.store_jobs import NOW
from tests.contract.store_suite import Opener, StoreFixtures
from worker.ports import JobStore, Run


class RunSuite(StoreFixtures):
    def test_a_slot_is_given_once_ever(self, store: JobStore, opener: Opener) -> None:
        assert store.claim_run("backup", "2024-01-01", "a")
        assert not store.claim_run("backup", "2024-01-01", "a")
        store.end_run("backup", "2024-01-01", ok=True, report={})
        other = opener()
        assert not other.claim_run("backup", "2024-01-01", "b")
        assert other.claim_run("backup", "2024-01-02", "b")
        assert other.claim_run("drill", "2024-01-01", "b")
        other.close()

    def test_the_ledger_tells_how_each_run_went_newest_first(self, store: JobStore) -> None:
        report: dict[str, Any] = {"files": 3, "names": ["ü"], "nested": {"ok": None}}
        for name, slot in (("backup", "1"), ("drill", "1"), ("backup", "2"), ("backup", "3")):
            store.claim_run(name, slot, "a")
        store.end_run("backup", "1", ok=True, report=report)
        store.end_run("backup", "2", ok=False, report={"error": "disk"})
        store.end_run("backup", "never claimed", ok=True, report={})
        runs = store.runs("backup", 9)
        assert [(run.slot, run.owner, run.ok, run.report) for run in runs] == [
            ("3", "a", None, {}),
            ("2", "a", False, {"error": "disk"}),
            ("1", "a", True, json.loads(json.dumps(report))),
        ]
        assert runs[0].ended_at is None
        assert runs[1].ended_at is not None
        assert runs[1].ended_at >= runs[1].started_at
        assert [run.name for run in store.runs(None, 3)] == ["backup", "backup", "drill"]
        assert store.runs("none", 9) == []

    def test_runs_of_another_store_are_kept_as_they_are_and_in_their_order(self, store: JobStore) -> None:
        kept = [
            Run("drill", "2", "far", NOW, NOW + 5.25, True, {"names": ["ü"], "nested": {"ok": None}}),
            Run("backup", "2", "far", NOW - 7.5, NOW, False, {"error": "disk"}),
            Run("backup", "1", "far", NOW + 99),
        ]
        store.keep_runs(kept)
        assert store.runs(None, 9) == kept[::-1]
        assert store.runs("backup", 9) == [kept[2], kept[1]]
        assert not store.claim_run("backup", "1", "here")

    def test_a_slot_that_is_known_stays_as_it_is(self, store: JobStore) -> None:
        store.claim_run("backup", "1", "here")
        before = store.runs("backup", 1)
        fresh = Run("backup", "2", "far", NOW, NOW + 1, True)
        for _ in range(2):
            store.keep_runs([Run("backup", "1", "far", NOW, NOW + 1, False, {"error": "disk"}), fresh, Run("backup", "2", "twice", NOW)])
        store.keep_runs([])
        assert store.runs(None, 9) == [fresh, *before]
        assert store.claim_run("backup", "3", "here")
        assert [run.slot for run in store.runs(None, 9)] == ["3", "2", "1"]

    def test_the_first_word_on_a_run_counts(self, store: JobStore) -> None:
        store.claim_run("backup", "1", "a")
        store.end_run("backup", "1", ok=False, report={"died": True})
        [before] = store.runs("backup", 9)
        store.end_run("backup", "1", ok=True, report={"late": True})
        assert store.runs("backup", 9) == [before]

    def test_the_ledger_forgets_the_oldest_lines_of_one_name(self, store: JobStore) -> None:
        store.keep_runs([Run(name, str(slot), "far", NOW + slot, NOW + slot, True) for slot in range(9) for name in ("drill", "backup")])
        for _ in range(2):
            store.drop_runs("backup", 3)
            assert [run.slot for run in store.runs("backup", 99)] == ["8", "7", "6"]
        assert len(store.runs("drill", 99)) == 9
        store.drop_runs("backup", 99)
        store.drop_runs("none", 0)
        assert len(store.runs(None, 99)) == 12
        assert store.claim_run("backup", "0", "here")
        store.drop_runs("backup", 0)
        assert [run.name for run in store.runs(None, 99)] == ["drill"] * 9
