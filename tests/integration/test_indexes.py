"""`haul indexes` and `haul advise` from outside: what is missing is made, what is foreign stays, what was found is shown."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner

from tests.contract.store_jobs import some_jobs
from worker.cli.advice import merged
from worker.cli.app import app
from worker.coordination.fake import FakeCoordinator
from worker.store import open_store
from worker.store.advisor import Advisor, Finding, Kind
from worker.store.indexes import Indexes, open_indexes
from worker.store.mongo import queries


@pytest.fixture(params=["sqlite", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Callable[[str, str], object]]]:
    """The address of a store that is as declared, and what drops one index and makes another beside Haul."""
    if request.param == "sqlite":
        path = tmp_path / "haul.db"
        open_store(f"sqlite:///{path}").close()

        def change(dropped: str, made: str) -> None:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(f"DROP INDEX {dropped}")
                connection.execute(f"CREATE INDEX {made} ON jobs (version)")

        yield f"sqlite:///{path}", change
        return
    url = request.getfixturevalue("mongo_url")
    open_store(url).close()
    client: MongoClient[dict[str, object]] = MongoClient(url)
    jobs = client.get_default_database()[queries.JOBS]

    def change_there(dropped: str, made: str) -> None:
        jobs.drop_index(dropped)
        jobs.create_index([("version", 1)], name=made)

    yield url, change_there
    client.close()


def opened(url: str) -> Indexes:
    return open_indexes(url, "development")


def test_a_store_that_was_just_made_is_as_declared(place: tuple[str, Callable[[str, str], object]]) -> None:
    with closing(opened(place[0])) as indexes:
        drift = indexes.drift()
    assert drift.none, drift


def test_what_is_missing_is_made_and_what_is_foreign_stays_until_it_is_named(place: tuple[str, Callable[[str, str], object]]) -> None:
    url, change = place
    change("jobs_by_user_and_time", "somebodys")
    with closing(opened(url)) as indexes:
        before = indexes.drift()
        assert (list(before.missing), list(before.foreign)) == (["jobs.jobs_by_user_and_time"], ["jobs.somebodys"])
        assert indexes.drift() == before, "looking changes nothing"
        indexes.make(list(before.missing))
        indexes.make(list(before.missing))
        after = indexes.drift()
        assert (dict(after.missing), list(after.foreign)) == ({}, ["jobs.somebodys"])
        indexes.drop(["jobs.somebodys", "jobs.unknown"])
        assert indexes.drift().none


def test_an_index_of_our_name_that_is_another_is_told(place: tuple[str, Callable[[str, str], object]]) -> None:
    url, change = place
    change("jobs_by_user_and_time", "jobs_by_user_and_time")
    with closing(opened(url)) as indexes:
        assert list(indexes.drift().changed) == ["jobs.jobs_by_user_and_time"]


def test_the_command_line_drops_nothing_without_being_told_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "haul.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        store.insert(some_jobs(3))
    monkeypatch.setenv("HAUL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HAUL_STORE_URL", f"sqlite:///{path}")

    def haul(*words: str, answer: str = "") -> tuple[int, str]:
        ended = CliRunner().invoke(app, ["indexes", *words], input=answer)
        return ended.exit_code, ended.stdout

    assert haul("drift") == (0, "the store is as declared\n")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX jobs_unsent")
        connection.execute("CREATE INDEX theirs ON jobs (version)")
        connection.execute("ALTER TABLE jobs ADD COLUMN theirs TEXT")
    code, shown = haul("drift", "--json")
    told = json.loads(shown)
    assert (code, list(told["missing"]), list(told["foreign"]), told["tables"]) == (
        1,
        ["jobs.jobs_unsent"],
        ["jobs.theirs"],
        ["jobs.theirs is not Haul's"],
    )
    assert haul("plan")[0] == 0
    assert haul("apply", "--dry-run")[0] == 0
    assert json.loads(haul("drift", "--json")[1]) == told, "neither writes"
    assert haul("apply")[0] == 0
    assert list(json.loads(haul("drift", "--json")[1])["foreign"]) == ["jobs.theirs"]
    assert haul("apply", "--drop-unknown", answer="n\n")[0] == 1
    assert list(json.loads(haul("drift", "--json")[1])["foreign"]) == ["jobs.theirs"]
    assert haul("apply", "--drop-unknown", "--yes")[0] == 0
    assert json.loads(haul("drift", "--json")[1])["foreign"] == {}


def test_the_same_finding_of_several_processes_is_shown_once_with_their_sums() -> None:
    one = {"kind": "scan", "operation": "x", "doing": "tick", "count": 1, "seconds": 1.0, "evidence": "little"}
    other = {**one, "count": 5, "seconds": 2.0, "evidence": "much"}
    dearest = {**one, "kind": "slow", "seconds": 9.0}
    found = merged([{"findings": [one]}, {"findings": [other, dearest]}, {}])
    assert [(each["kind"], each["count"], each["seconds"], each["evidence"], each["processes"]) for each in found] == [
        ("slow", 1, 9.0, "little", 1),
        ("scan", 6, 3.0, "much", 2),
    ]


def test_what_the_processes_told_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = FakeCoordinator()
    monkeypatch.setattr("worker.cli.connect.connected", lambda: nullcontext(SimpleNamespace(coordinator=redis)))

    def shown(*words: str) -> str:
        ended = CliRunner().invoke(app, ["advise", *words])
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    assert json.loads(shown("--json")) == {"processes": 0, "findings": []}
    redis.put_advice("idle", Advisor().summary())
    assert "nothing to advise, from what 1 process told" in shown()
    finding = Finding(Kind.SCAN, "sqlite", "SELECT x", "tick", "worker/x.py:1", 5, 1.0, "explain: all", "add an index", "CREATE INDEX y")
    redis.put_advice("busy", {"findings": [finding.document()]})
    assert [line.split()[0] for line in shown().splitlines()] == ["scan", "tick,", "explain:", "add", "CREATE"]
    assert json.loads(shown("--json"))["findings"][0]["index"] == "CREATE INDEX y"
