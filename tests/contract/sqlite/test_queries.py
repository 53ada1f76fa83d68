"""Every query goes by an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store_suite import Opener
from worker.jobs.states import State
from worker.store.sqlite import queries as sqlite_queries

QUERIES = {
    name: text for name, text in vars(sqlite_queries).items() if isinstance(text, str) and name.isupper() and not name.startswith("_")
}
PAGES = {
    f"page of {states or 'any'} {'of a user' if of_user else ''}": sqlite_queries.page(states, of_user=of_user)
    for states in (None, frozenset({State.DONE}), frozenset(State))
    for of_user in (False, True)
}


@pytest.fixture
def connection(path: Path, opener: Opener) -> Iterator[sqlite3.Connection]:
    opener().close()
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


class Anything(dict[str, int]):
    """A value for every name a query binds."""

    def __missing__(self, name: str) -> int:
        return 1


@pytest.mark.parametrize("name", [*QUERIES, *PAGES])
def test_every_query_goes_by_an_index_and_sorts_nothing(connection: sqlite3.Connection, name: str) -> None:
    query = {**QUERIES, **PAGES}[name]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", Anything())]
    allowed = (
        "SCAN json_each",
        "SCAN leases",
        "SCAN limits",
        "SCAN breakers",
        "SCAN drains",
        "SCAN jobs USING INDEX jobs_unsent",
    )  # the ids asked for; a row an engine, twice; what an operator set; what is looked for
    if name in ("RUNS", "page of any "):
        allowed += ("SCAN runs", "SCAN jobs")  # the tables' own order, and a limit
    if name in ("COUNTS", "ENGINE_COUNTS", "ENGINE_STATES", "SLOT_COUNTS", "FOLLOWED"):
        allowed += ("SCAN jobs USING COVERING INDEX",)  # all of them are counted
    if name == "SLOT_URIS":
        allowed += ("SCAN jobs USING INDEX jobs_in_slot",)  # partial: those that take a slot
    if name in ("PROMISED", "SHORT_OF_SPACE"):
        allowed += ("SCAN jobs USING COVERING INDEX jobs_promised", "SCAN jobs USING INDEX jobs_short")  # partial, read in its order
    assert [line for line in plan if "SCAN" in line and not line.startswith(allowed)] == []
    assert [line for line in plan if "TEMP B-TREE" in line] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("AT_ENGINE", "jobs_at_engine (engine=?)"),
        ("NEEDING_OWNER", "jobs_needing_owner (engine=?)"),
        ("UNSENT", "jobs_unsent"),
        ("UNDESCRIBED", "jobs_undescribed (id>?)"),
        ("UNPROBED", "jobs_unprobed (id>?)"),
        ("PROMISED", "COVERING INDEX jobs_promised"),
        ("SHORT_OF_SPACE", "jobs_short"),
        ("UNPOSTED", "jobs_unposted (<expr>=? AND <expr><?)"),
        ("TORRENTS", "sqlite_autoindex_torrents_1 (id=?)"),
        ("HOLDING", "jobs_holding (holds=?)"),
        ("FOLLOWING", "jobs_following (follows=?)"),
        ("SHARING", "jobs_by_content (content=?)"),
        ("SHARING", "jobs_by_content2 (content2=?)"),
        ("FOLLOWED", "COVERING INDEX jobs_following"),
        ("IN_STATE", "jobs_by_state_and_id (state=? AND id>?)"),
        ("COUNTS", "COVERING INDEX jobs_by_state"),
        ("COUNTS_OF", "COVERING INDEX jobs_by_state"),
        ("ENGINE_COUNTS", "COVERING INDEX jobs_at_engine"),
        ("ENGINE_STATES", "COVERING INDEX jobs_at_engine"),
        ("RUNS_OF", "runs_by_name (name=?)"),
        ("FINISHED", "jobs_by_state (state=? AND rowid>?)"),
        ("DROP_RUNS", "runs_by_name (name=?"),
    ],
)
def test_a_query_goes_by_the_index_made_for_it(connection: sqlite3.Connection, name: str, index: str) -> None:
    plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", Anything()))
    assert index in plan
