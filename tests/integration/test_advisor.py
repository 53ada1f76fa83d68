"""Seeded faults are found, with the right advice: loops of reads, missing indexes, slow sums, reads that repeat; on both stores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Int64

from tests.contract.store_jobs import some_jobs
from tests.integration.test_advisor_path import is_stand_in
from worker import doing
from worker.ports import JobFilter
from worker.store import open_store
from worker.store.advisor import Advisor, Finding, Kind
from worker.store.advisor.operation import Operation, Verb, mongo_plan
from worker.store.advisor.tally import Tallies
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.queries import INDEXES
from worker.store.mongo.watch import Asker
from worker.store.sqlite.connections import Connections

SECRET = "hunter2"


@dataclass
class Seeded:
    """Something to ask, with an advisor that follows every read."""

    advisor: Advisor
    read: Callable[[str], object]
    scan: Callable[[], object]
    sort: Callable[[], object]
    everything: Callable[[], object]
    slow: Callable[[], object]
    make: Callable[[str], object]
    stand_in: bool = False

    def found(self, kind: Kind) -> list[Finding]:
        self.advisor.look(plans=100)
        return [finding for finding in self.advisor.findings() if finding.kind is kind]


@pytest.fixture(params=["sqlite", "mongodb"])
def seeded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Seeded]:
    advisor = Advisor(tallies=Tallies(follow_one_in=1))
    if request.param == "sqlite":
        with closing(Connections(tmp_path / "x.db", advisor)) as connections:
            yield _sqlite(connections, advisor)
    else:
        url = request.getfixturevalue("mongo_url")
        with closing(MongoConnection(url, advisor=advisor)) as connection:
            yield _mongo(connection, advisor, is_stand_in(url))


def _sqlite(connections: Connections, advisor: Advisor) -> Seeded:
    def write(sql: str, values: Any = ()) -> None:
        with connections.writing() as connection:
            connection.execute(sql, values)

    def ask(sql: str, **values: Any) -> list[Any]:
        with connections.reading() as connection:
            return connection.execute(sql, values).fetchall()

    def sleep(seconds: float) -> int:
        time.sleep(seconds)
        return 1

    def slow() -> None:
        with connections.reading() as connection:
            connection.create_function("nap", 1, sleep)
            connection.execute("SELECT colour, sum(nap(0.08)) FROM things WHERE id = '1' GROUP BY colour").fetchall()

    write("CREATE TABLE things (id TEXT PRIMARY KEY, colour TEXT, size INTEGER)")
    for number in range(20):
        write("INSERT INTO things VALUES (:id, :colour, :size)", {"id": f"{number}", "colour": SECRET, "size": number})
    asks = "SELECT id FROM things WHERE colour = :colour AND size > :size"
    return Seeded(
        advisor,
        read=lambda id: ask("SELECT id, colour FROM things WHERE id = :id", id=id),
        scan=lambda: ask(f"{asks} LIMIT 5", colour=SECRET, size=1),
        sort=lambda: ask(f"{asks} ORDER BY size DESC, id LIMIT 5", colour=SECRET, size=1),
        everything=lambda: ask("SELECT id FROM things WHERE size > :size", size=1),
        slow=slow,
        make=write,
    )


def _mongo(connection: MongoConnection, advisor: Advisor, stand_in: bool) -> Seeded:
    things = MongoCollection(connection, "things")
    things.add([{"_id": f"{number}", "colour": SECRET, "size": number} for number in range(20)])

    def make(statement: str) -> None:
        keys = json.loads(statement.partition("createIndex(")[2].partition("}")[0] + "}")
        connection.collection("things").create_index(list(keys.items()))

    def slow() -> None:
        things.add([{"_id": f"more {number}", "colour": f"{number}"} for number in range(2_000)])
        things.aggregate([{"$match": {"size": {"$exists": False}}}, {"$group": {"_id": "$colour", "n": {"$sum": 1}}}])

    where = {"colour": SECRET, "size": {"$gt": 1}}
    return Seeded(
        advisor,
        read=lambda id: things.of_ids([id]),
        scan=lambda: things.find(where, limit=5),
        sort=lambda: things.find(where, [("size", -1), ("_id", 1)], 5),
        everything=lambda: things.find({"size": {"$gt": 1}}),
        slow=slow,
        make=make,
        stand_in=stand_in,
    )


def test_a_loop_of_reads_in_one_step_is_found_with_the_code_that_does_it(seeded: Seeded) -> None:
    for _ in range(3):
        with doing.at("step seeded"):
            for number in range(12):
                seeded.read(f"{number}")
    [finding] = seeded.found(Kind.REPEATED_SHAPE)
    assert finding.doing == "step seeded"
    assert "12 times in one" in finding.evidence
    assert "list of values" in finding.advice
    assert finding.place.startswith("tests/integration/test_advisor.py:")


def test_the_same_read_in_many_requests_is_no_loop(seeded: Seeded) -> None:
    for number in range(30):
        with doing.at("GET /v1/jobs"):
            seeded.read(f"{number}")
    assert seeded.found(Kind.REPEATED_SHAPE) == []


def test_a_missing_index_is_found_and_the_one_proposed_makes_the_scan_go_away(seeded: Seeded) -> None:
    seeded.scan()
    [finding] = seeded.found(Kind.SCAN)
    assert "(colour, size)" in finding.advice, "equality goes before range"
    seeded.make(finding.index)
    _forget_plans(seeded.advisor)
    seeded.scan()
    assert seeded.found(Kind.SCAN) == []
    [plan] = [tally.plan for tally in seeded.advisor.tallies.all() if tally.plan and tally.operation.equal]
    assert not plan.scans
    assert plan.indexes == ("things_by_colour_size",) or "colour_1_size_1" in plan.indexes


def test_a_sort_in_memory_goes_away_by_an_index_of_equality_sort_and_range(seeded: Seeded) -> None:
    seeded.sort()
    finding = (seeded.found(Kind.SORT) or seeded.found(Kind.SCAN))[0]
    assert "size" in finding.index
    seeded.make(finding.index)
    _forget_plans(seeded.advisor)
    seeded.sort()
    assert seeded.found(Kind.SCAN) == []
    if not seeded.stand_in:  # it sorts what an index has in order, and says so
        assert seeded.found(Kind.SORT) == []


def test_a_slow_sum_is_found(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    if "mongo" in str(seeded.read):
        monkeypatch.setattr("worker.store.advisor.tally.SLOW_READ_S", 0.001)  # what is slow depends on the machine
    seeded.slow()
    found = [finding for finding in seeded.found(Kind.SLOW) if "GROUP BY" in finding.operation or "$group" in finding.operation]
    assert "took longer than 50 ms" in found[0].evidence
    assert found[0].advice


def test_a_read_that_brings_the_same_again_is_a_candidate_for_a_cache_and_one_that_does_not_is_none(seeded: Seeded) -> None:
    for _ in range(30):
        seeded.read("7")
    [finding] = seeded.found(Kind.REPEATED_READ)
    assert "a hit rate of 97%" in finding.evidence
    for number in range(200):
        seeded.read(f"{number}")
    assert seeded.found(Kind.REPEATED_READ) == []


def test_a_read_without_limit_is_found_and_one_that_says_why_is_not(seeded: Seeded) -> None:
    seeded.everything()
    [finding] = seeded.found(Kind.UNBOUNDED)
    assert "up to 18" in finding.evidence


def test_what_is_told_holds_no_value_of_a_request(seeded: Seeded) -> None:
    for _ in range(30):
        seeded.read(SECRET)
        seeded.scan()
        seeded.everything()
    seeded.advisor.look(plans=100)
    summary = seeded.advisor.summary()
    assert summary["findings"]
    assert SECRET not in str(summary)


def test_memory_is_bounded_by_the_number_of_shapes() -> None:
    tallies = Tallies(shapes_max=5)
    kept = [tallies.of(number, lambda: Operation("sqlite", "t", Verb.FIND, "t")) for number in range(9)]
    assert [tally is not None for tally in kept] == [True] * 5 + [False] * 4
    assert tallies.dropped == 4


def test_the_advisor_of_a_process_tells_by_itself_and_ends_with_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.store.advisor.advisor.FIRST_LOOK_S", 0.05)
    told: list[Any] = []
    advisor = Advisor(told.append)
    store = open_store(f"sqlite:///{tmp_path / 'haul.db'}", advisor=advisor)
    store.insert(some_jobs(3))
    deadline = time.monotonic() + 20
    while not told:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert told[0]["operations"]
    store.close()
    assert advisor._thread is not None
    assert not advisor._thread.is_alive()


def _forget_plans(advisor: Advisor) -> None:
    for tally in advisor.tallies.all():
        tally.plan, tally.explain_at = None, 0.0


# ---- indexes that nobody uses --------------------------------------------------------------------------------------


def stats_of(name: str, ops: int, days: float | None, **more: Any) -> dict[str, Any]:
    """A row of `$indexStats` in the form that MongoDB 5 to 8 document, one of each shard."""
    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    spec = {"v": 2, "key": {"x": 1}, "name": name, **more.pop("spec", {})}
    return {"name": name, "key": {"x": 1}, "host": "host:27017", "accesses": {"ops": Int64(ops), "since": since}, "spec": spec, **more}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([stats_of("idle", 0, 8), stats_of("used", 5, 8), stats_of("_id_", 0, 90)], ["idle"]),
        ([stats_of("idle", 0, 8), stats_of("new", 0, 1)], ["idle"]),
        ([stats_of("idle", 0, 6.9)], []),
        ([stats_of("idle", 0, None)], []),
        ([stats_of("busy elsewhere", 0, 8, shard="a"), stats_of("busy elsewhere", 3, 8, shard="b")], []),
        ([stats_of("moved lately", 0, 8, shard="a"), stats_of("moved lately", 0, 1, shard="b")], []),
        ([stats_of("unique", 0, 8, spec={"unique": True}), stats_of("ending", 0, 8, spec={"expireAfterSeconds": 60})], []),
        ([stats_of("in the making", 0, 8, building=True)], []),
    ],
    ids=["week", "each by itself", "not yet", "not told", "other shard", "younger shard", "enforcing", "building"],
)
def test_an_index_that_the_server_counted_no_use_of_for_a_week_is_found(rows: list[dict[str, Any]], found: list[str]) -> None:
    asked: list[str] = []

    def command(document: dict[str, Any]) -> dict[str, Any]:
        asked.append(document["aggregate"])
        return {"cursor": {"id": 0, "firstBatch": rows if document["aggregate"] == "jobs" else []}}

    findings = Asker(command).unused()
    assert [finding.operation for finding in findings] == [f"jobs: index {name}" for name in found]
    assert all(finding.kind is Kind.UNUSED_INDEX and "8.0 days" in finding.evidence for finding in findings)
    assert set(asked) == set(INDEXES)


def test_a_server_is_asked_which_indexes_nobody_uses_and_what_it_does_not_count_is_not_made_up(mongo_url: str) -> None:
    """The server of the tests answers, and tells of no time since when it counts; a MongoDB of a test is younger than a week."""
    with closing(open_store(mongo_url)) as store, closing(MongoConnection(mongo_url)) as connection:
        store.insert(some_jobs(3))
        assert store.page(JobFilter(), 1).jobs
        asked = connection.ask({"aggregate": "jobs", "pipeline": [{"$indexStats": {}}], "cursor": {}})
        assert {row["name"] for row in asked["cursor"]["firstBatch"]} > {"_id_"}
        assert Asker(connection.ask).unused() == []


# ---- plans of MongoDB servers --------------------------------------------------------------------------------------

COLLSCAN = {"stage": "COLLSCAN", "filter": {"colour": {"$eq": "x"}}, "direction": "forward"}
IXSCAN = {"stage": "IXSCAN", "keyPattern": {"colour": 1, "size": 1}, "indexName": "colour_1_size_1", "direction": "forward"}
FETCH = {"stage": "FETCH", "inputStage": IXSCAN}


@pytest.mark.parametrize(
    ("explained", "scans", "sorts"),
    [
        ({"queryPlanner": {"winningPlan": COLLSCAN, "rejectedPlans": []}}, True, False),
        ({"queryPlanner": {"winningPlan": FETCH, "rejectedPlans": [COLLSCAN]}}, False, False),
        ({"queryPlanner": {"winningPlan": {"stage": "SORT", "sortPattern": {"size": 1}, "inputStage": COLLSCAN}}}, True, True),
        # The slot-based engine of MongoDB 5.1 and later
        (
            {
                "explainVersion": "2",
                "queryPlanner": {"winningPlan": {"queryPlan": {"stage": "SORT", "inputStage": FETCH}, "slotBasedPlan": {}}},
            },
            False,
            True,
        ),
        (
            {
                "stages": [
                    {"$cursor": {"queryPlanner": {"winningPlan": COLLSCAN}}},
                    {"$group": {"_id": "$x"}},
                    {"$sort": {"sortKey": {"n": 1}}},
                ]
            },
            True,
            False,
        ),
        ({"queryPlanner": {"winningPlan": {"stage": "SHARD_MERGE", "shards": [{"shardName": "a", "winningPlan": COLLSCAN}]}}}, True, False),
        (
            {"queryPlanner": {"winningPlan": {"stage": "SUBPLAN", "inputStage": {"stage": "OR", "inputStages": [IXSCAN, COLLSCAN]}}}},
            True,
            False,
        ),
        ({"queryPlanner": {"winningPlan": {"stage": "EXPRESS_IXSCAN", "indexName": "_id_"}}}, False, False),
        ({"queryPlanner": {"winningPlan": {"stage": "EOF"}}}, False, False),
    ],
)
def test_a_plan_in_the_form_that_servers_document_is_read(explained: dict[str, Any], scans: bool, sorts: bool) -> None:
    plan = mongo_plan(explained)
    assert (plan.scans, plan.sorts) == (scans, sorts)
