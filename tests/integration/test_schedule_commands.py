"""`haul schedule` from outside: what is due, what ran, what was missed, and a run of one's own."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.maintenance.report import Report
from worker.maintenance.schedule import BORN
from worker.ports import Run, Services
from worker.store import open_store

Haul = Callable[..., tuple[int, Any]]


@pytest.fixture
def haul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Haul:
    """Runs a command with `--json`; the store is there and Redis is not. Its exit code and what it printed."""
    open_store(f"sqlite:///{tmp_path / 'haul.db'}").close()
    monkeypatch.setattr("worker.logs.configure", lambda *_: None)
    for name, value in {
        "DATA_DIR": str(tmp_path),
        "STORE_URL": f"sqlite:///{tmp_path / 'haul.db'}",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "ENGINES": "",
        "TIMEZONE": "Europe/Berlin",
    }.items():
        monkeypatch.setenv(f"HAUL_{name}", value)

    def run(*words: str) -> tuple[int, Any]:
        ended = CliRunner().invoke(app, [*words, "--json"])
        lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
        return ended.exit_code, json.loads(lines[-1]) if lines else ended.exception

    return run


def keep(tmp_path: Path, *runs: Run) -> None:
    with closing(open_store(f"sqlite:///{tmp_path / 'haul.db'}")) as store:
        store.keep_runs(runs)


def test_a_run_of_ones_own_is_shown_in_history_and_list(haul: Haul) -> None:
    code, told = haul("schedule", "run", "indexes")
    assert (code, told["ok"], told["figures"]) == (0, True, {"differences": 0})
    code, told = haul("schedule", "history", "indexes")
    [line] = told["runs"]
    assert (line["result"], line["slot"].partition(":")[0], line["summary"]) == ("ok", "manual", "the store is as declared")
    code, told = haul("schedule", "list")
    work = next(each for each in told["works"] if each["name"] == "indexes")
    assert (code, told["timezone"], work["ok"], work["last"]["result"]) == (0, "Europe/Berlin", True, "ok")
    assert work["next_at"] > time.time()


def test_a_work_that_finds_something_wrong_fails_and_health_says_so(haul: Haul, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "haul.db")) as connection:
        connection.execute("DROP INDEX jobs_unsent")
    code, told = haul("schedule", "run", "indexes")
    assert (code, told["ok"], told["figures"]) == (1, False, {"differences": 1})
    assert haul("schedule", "list")[0] == 1
    _, told = haul("health")
    assert "failed: 1 differences" in told["checks"]["work indexes"]["error"]


def test_a_work_that_cannot_reach_a_service_fails_and_says_which(haul: Haul) -> None:
    code, told = haul("schedule", "run", "engines")
    assert code == 1
    assert "redis" in told["summary"]


def test_what_nobody_has_taken_is_overdue_and_what_was_missed_is_told(haul: Haul, tmp_path: Path) -> None:
    long_ago = time.time() - 40 * 86_400.0
    keep(tmp_path, Run("indexes", BORN, "w", long_ago, long_ago, True, {"since": long_ago}))
    code, told = haul("schedule", "list")
    work = next(each for each in told["works"] if each["name"] == "indexes")
    assert (code, work["ok"], work["overdue"]) == (1, False, True)
    _, told = haul("health")
    assert "overdue" in told["checks"]["work indexes"]["error"]
    missed = Run("engines", "2026-01-01T00:20:00Z", "w", 1.0, 1.0, False, {"missed": True, "summary": "missed"})
    keep(tmp_path, missed)
    _, told = haul("schedule", "history", "engines")
    assert [line["result"] for line in told["runs"]] == ["missed"]


def test_a_dry_run_writes_nothing_into_the_ledger(haul: Haul) -> None:
    code, told = haul("schedule", "run", "retention", "--dry-run")
    assert (code, told["dry_run"], told["figures"]["jobs_removed"]) == (0, True, 0)
    assert haul("schedule", "history")[1] == {"runs": []}
    assert haul("schedule", "run", "indexes", "--dry-run")[0] != 0


def test_a_work_that_runs_already_is_not_begun_beside_itself(haul: Haul, tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path / 'haul.db'}")) as store:
        assert store.acquire_lease("maintenance:records", "somebody", 600.0)
    code, _ = haul("schedule", "run", "indexes")
    assert code == 1
    assert haul("schedule", "history")[1] == {"runs": []}


def test_a_run_that_is_broken_off_by_ctrl_c_is_recorded_as_that(haul: Haul, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Services) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.maintenance.timetable.WORKS", {"indexes": interrupted})
    assert haul("schedule", "run", "indexes")[0] == 130
    [line] = haul("schedule", "history", "indexes")[1]["runs"]
    assert (line["result"], line["summary"]) == ("failed", "it was broken off")


def test_the_history_of_everything_leaves_out_what_works_keep_for_themselves(haul: Haul, tmp_path: Path) -> None:
    keep(tmp_path, *(Run(name, "1", "a", 1.0, 2.0, True) for name in ("engines", "baseline.hourly")))
    assert [line["name"] for line in haul("schedule", "history")[1]["runs"]] == ["engines"]
