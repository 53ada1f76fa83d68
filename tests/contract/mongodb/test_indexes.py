"""Every query goes by an index."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from tests.contract.store_jobs import NOW, a_job, a_torrent_job, downloading, some_jobs
from tests.contract.store_suite import Opener
from worker.jobs.states import State
from worker.ports import JobFilter
from worker.store.mongo import pipelines, queries, runs
from worker.store.mongo.store import MongoStore

_USER = JobFilter(user="u")
_USERS_DONE = JobFilter(user="u", states=(State.DONE, State.FAILED))
_DONE = JobFilter(states=(State.DONE, State.FAILED))
FINDS: dict[str, tuple[str, dict[str, Any], queries.Order, str]] = {
    "at_engine": (queries.JOBS, queries.at_engine("aria2"), [], "jobs_at_engine"),
    "needing_owner": (queries.JOBS, queries.needing_owner("aria2"), queries.OLDEST_CHANGE, "jobs_needing_owner"),
    "in_state": (queries.JOBS, queries.in_state(State.QUEUED, "a"), queries.BY_ID, "jobs_by_state_and_id"),
    "finished": (queries.JOBS, queries.ended(9), queries.OLDEST, "jobs_by_state"),
    "undescribed": (queries.JOBS, queries.undescribed("a"), queries.BY_ID, "jobs_undescribed"),
    "unprobed": (queries.JOBS, queries.unprobed("a"), queries.BY_ID, "jobs_unprobed"),
    "short_of_space": (queries.JOBS, queries.short_of_space(), queries.SHORT_LONGEST, "jobs_short"),
    "promised": (queries.JOBS, pipelines.promised()[0]["$match"], [], "jobs_promised"),
    "holding": (queries.JOBS, queries.holding(["a"]), [], "jobs_holding"),
    "following": (queries.JOBS, queries.following(["a"]), [], "jobs_following"),
    "sharing": (queries.JOBS, queries.sharing(["a"]), [], "jobs_contents"),
    "followed": (queries.JOBS, dict(pipelines.FOLLOWED[0]["$match"]), [], "jobs_following"),
    "unsent": (queries.JOBS, queries.unsent(), queries.OLDEST_CHANGE, "jobs_unsent"),
    "unposted": (queries.JOBS, queries.unposted("", NOW), queries.DUE, "jobs_unposted"),
    "page": (queries.JOBS, queries.page(JobFilter(), 9), queries.NEWEST, "jobs_newest"),
    "page of a user": (queries.JOBS, queries.page(_USER, 9), queries.NEWEST, "jobs_by_user"),
    "page of a user's states": (queries.JOBS, queries.page(_USERS_DONE, 9), queries.NEWEST, "jobs_by_user"),
    "page of states": (queries.JOBS, queries.page(_DONE, 9), queries.NEWEST, "jobs_by_state"),
    "counts": (queries.JOBS, pipelines.counts(State)[0]["$match"], [], "jobs_by_state"),
    "engine_counts": (queries.JOBS, pipelines.engine_counts()[0]["$match"], [], "jobs_at_engine"),
    "engine_states": (queries.JOBS, pipelines.engine_states()[0]["$match"], [], "jobs_at_engine"),
    "user_counts": (queries.JOBS, pipelines.user_counts(["u"])[0]["$match"], [], "jobs_by_user"),
    "user_bytes": (queries.JOBS, pipelines.user_bytes(["u"], NOW)[0]["$match"], [], "jobs_by_user_and_time"),
    "slot_counts": (queries.JOBS, pipelines.slot_counts()[0]["$match"], [], "jobs_at_engine"),
    "slot_uris": (queries.JOBS, pipelines.slot_uris()[0]["$match"], [], "jobs_at_engine"),
    "slot": (queries.RUNS, runs.line("backup", "1"), [], "runs_once"),
    "runs": (queries.RUNS, runs.newest(None), queries.NEWEST, "runs_newest"),
    "runs of a name": (queries.RUNS, runs.newest("backup"), queries.NEWEST, "runs_by_name"),
}


@pytest.mark.parametrize("name", FINDS)
def test_every_query_has_an_index_that_selects_and_sorts_for_it(store: MongoStore, name: str) -> None:
    collection, where, order, index = FINDS[name]
    found = store._connection.collection(collection).index_information()[index]
    keys = [key for key, _ in found["key"]]
    partial_to = dict(found.get("partialFilterExpression", {}))
    # Fields with an equality lead, then the one it is sorted by or that has a range; the index holds all that the filter finds.
    selected = [key for key in keys if key in where]
    assert keys[: len(selected)] == selected
    assert {key for key, _ in order} <= set(keys)
    assert where.keys() - set(keys) <= partial_to.keys()
    assert partial_to.keys() <= where.keys()


def test_the_server_goes_by_the_index_made_for_each_query_and_sorts_nothing(store: MongoStore) -> None:
    if "secantus" in store._connection.command("serverStatus"):
        pytest.skip("SecantusDB plans in its own way; set HAUL_TEST_MONGODB_URL")
    store.insert([*some_jobs(30), a_torrent_job("k")])
    downloading(store, "x")
    for collection, where, order, index in FINDS.values():
        cursor = store._connection.collection(collection).find(where)
        plan = str((cursor.sort(order) if order else cursor).limit(5).explain()["queryPlanner"]["winningPlan"])
        assert f"'indexName': '{index}'" in plan
        assert "'stage': 'SORT'" not in plan
        assert "COLLSCAN" not in plan


def test_opening_again_finds_indexes_and_counters_as_they_are(store: MongoStore, opener: Opener) -> None:
    store.insert(some_jobs(3))
    before = store._connection.collection(queries.JOBS).index_information()
    with closing(opener()) as again:
        assert again.insert([a_job("later")])[0].created
        assert [job.key for job in again.page(JobFilter(), 1).jobs] == ["later"]
    assert store._connection.collection(queries.JOBS).index_information() == before
