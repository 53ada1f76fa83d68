"""The MongoDB store: the contract, and what only this implementation can get wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pymongo.monitoring
import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from tests.contract.breaker_suite import BreakerSuite
from tests.contract.drains_suite import DrainsSuite
from tests.contract.limits_suite import LimitsSuite
from tests.contract.store_contract import StoreSuite
from tests.contract.store_jobs import NOW, WAIT_S, a_job, a_torrent_job, admitted, change, downloading, some_jobs, until
from tests.contract.store_races import StoreRaces
from tests.contract.store_space import SpaceSuite
from tests.contract.store_suite import LONG_S, SHORT_S, Opener, lease_of
from tests.contract.upkeep_suite import UpkeepSuite
from tests.mongo_proxy import MongoProxy, mongo_proxy
from tests.mongodb import with_options
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.model import Job, Progress, Request, Source, SourceKind, new_job
from worker.jobs.states import State
from worker.ports import Applied, Change, Inserted, JobFilter, JobStore, Run
from worker.store import open_store
from worker.store.mongo import pipelines, queries, upkeep
from worker.store.mongo.store import MongoStore


class Transactions(CommandListener):
    """Notes each command that begins or ends a transaction, of every client of this process."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if "startTransaction" in event.command or event.command_name in ("commitTransaction", "abortTransaction"):
            self.seen.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


TRANSACTIONS = Transactions()
pymongo.monitoring.register(TRANSACTIONS)


@pytest.fixture(autouse=True)
def _no_transaction() -> Iterator[None]:
    """A standalone server has none: every test of this module fails when it begins one."""
    yield
    seen, TRANSACTIONS.seen = TRANSACTIONS.seen, []
    assert seen == []


@pytest.fixture
def opener(mongo_url: str) -> Opener:
    # The driver lends connections in no order: of more threads than connections that never rest, one may wait for ever.
    return partial(open_store, with_options(mongo_url, "maxPoolSize=30"))


@pytest.fixture
def store(opener: Opener) -> Iterator[MongoStore]:
    with closing(opener()) as store:
        assert isinstance(store, MongoStore)
        yield store


class TestContract(StoreSuite):
    pass


class TestLimits(LimitsSuite):
    pass


class TestBreakers(BreakerSuite):
    pass


class TestDrains(DrainsSuite):
    pass


class TestUpkeep(UpkeepSuite):
    """What the works by the clock ask of it."""


class TestSpace(SpaceSuite):
    """What is kept for jobs, and who waits for some."""


class TestRaces(StoreRaces):
    jobs, ttl_s = 20, 0.2  # SecantusDB takes milliseconds for an update


def test_a_transaction_would_be_noticed(mongo_url: str) -> None:
    with MongoClient[Any](mongo_url) as client, client.start_session() as session:
        session.start_transaction()
        with pytest.raises(pymongo.errors.PyMongoError, match="no such command"):
            client.haul.command("none", session=session)
    assert TRANSACTIONS.seen
    TRANSACTIONS.seen.clear()


# ---- text of users -----------------------------------------------------------------------------------------------

DOLLARS = "$$NOW $set.a.b {$ne: 1} $where"


def test_text_that_looks_like_a_query_is_kept_as_it_is(store: JobStore) -> None:
    source = Source(SourceKind.HTTP, f"https://host/{DOLLARS}?$x.y={DOLLARS}")
    job = new_job(Request(source, DOLLARS, DOLLARS, name=DOLLARS, category="$state", tier="$$ROOT"), NOW)
    other = a_job("k", "$ne")
    store.insert([job, other])
    moved = change(store, job, admitted(job, "$engine.a"))
    noted = change(store, moved, moved.noted(NOW, DOLLARS, data={"$set": {"a.b": "$c"}, "x.$y": [DOLLARS]}, message="$message"))
    assert store.get([job.id, "$ne", DOLLARS]) == {job.id: noted}
    assert store.page(JobFilter(user=DOLLARS), 9).jobs == (noted,)
    assert store.page(JobFilter(user="$ne"), 9).jobs == (other,)
    assert store.at_engine("$engine.a") == [noted]
    assert store.engine_counts() == {"$engine.a": 1}
    assert store.at_engine("$exists") == []


def test_names_that_look_like_expressions_hold_leases_and_runs(store: JobStore) -> None:
    owner, other = "$owner", "$$NOW"
    lease = lease_of(store, "$$ROOT.a", owner)
    assert (lease.name, lease.owner) == ("$$ROOT.a", owner)
    assert store.acquire_lease("$$ROOT.a", other, LONG_S) is None
    assert lease_of(store, "$$ROOT.a", owner).token == lease.token
    assert store.claim_run("$name", "$slot.1", owner)
    assert not store.claim_run("$name", "$slot.1", other)
    store.end_run("$name", "$slot.1", ok=True, report={"$inc": {"a.b": 1}})
    (run,) = store.runs("$name", 9)
    assert run == Run("$name", "$slot.1", owner, run.started_at, run.ended_at, True, {"$inc": {"a.b": 1}})


# ---- replies that are lost ---------------------------------------------------------------------------------------


@pytest.fixture
def proxy(mongo_url: str) -> Iterator[MongoProxy]:
    url = urlsplit(mongo_url)
    if "," in url.netloc or "+" in url.scheme or "tls" in url.query:
        pytest.skip("the proxy stands before one server that speaks in the clear")
    with mongo_proxy(url.netloc.rpartition("@")[2]) as proxy:
        yield proxy


@pytest.fixture
def far_url(mongo_url: str, proxy: MongoProxy) -> str:
    """The database of the test, through the proxy, without the driver's own repetitions, which only a replica set would have."""
    url = urlsplit(mongo_url)
    login, at, _ = url.netloc.rpartition("@")
    options = "serverMonitoringMode=poll&directConnection=true&retryWrites=false&retryReads=false"
    return with_options(urlunsplit(url._replace(netloc=f"{login}{at}{proxy.address}")), options)


@pytest.fixture
def far(far_url: str) -> Iterator[JobStore]:
    """The store, seen through the proxy."""
    with closing(open_store(far_url)) as store:
        yield store


@pytest.fixture
def hasty(far_url: str) -> Iterator[JobStore]:
    """As `far`, with a short time-out."""
    with closing(open_store(with_options(far_url, "timeoutMS=1000"))) as store:
        yield store


def test_a_change_whose_reply_was_lost_has_won_and_was_made_once(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    jobs = some_jobs(3)
    store.insert(jobs)
    moved = change(store, jobs[1], admitted(jobs[1]))
    proxy.lose_reply("update")
    assert far.apply([Change(job, job.noted(NOW, "mine")) for job in jobs]) == [
        Applied(True, jobs[0].noted(NOW, "mine")),
        Applied(False, moved),
        Applied(True, jobs[2].noted(NOW, "mine")),
    ]
    assert proxy.idle
    assert {job.version for job in store.get([job.id for job in jobs]).values()} == {2}


def test_a_change_whose_reply_was_lost_has_won_though_others_have_changed_the_job_since(
    far: JobStore, proxy: MongoProxy, store: JobStore
) -> None:
    job = a_job("k")
    store.insert([job])
    mine = job.noted(NOW, "mine")
    after = [mine]

    def others() -> None:
        for _ in range(queries.OPS_KEPT - 1):
            after.append(change(store, after[-1], after[-1].noted(NOW, "another's")))

    proxy.lose_reply("update", then=others)
    assert far.apply([Change(job, mine)]) == [Applied(True, mine)]
    assert store.get([job.id]) == {job.id: after[-1]}


def test_a_change_that_never_reached_the_server_is_sent_again(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    job = a_job("k")
    store.insert([job])
    proxy.lose_reply("update", forward=False)
    assert far.apply([Change(job, admitted(job))]) == [Applied(True, admitted(job))]
    assert proxy.idle
    assert store.get([job.id]) == {job.id: admitted(job)}


def test_a_change_whose_second_reply_is_lost_too_is_a_passing_fault_and_asking_again_tells(
    far: JobStore, proxy: MongoProxy, store: JobStore
) -> None:
    job = a_job("k")
    store.insert([job])
    proxy.lose_reply("update", times=2)
    with pytest.raises(Transient, match=r"store: MongoDB database '.*': the connection broke") as caught:
        far.apply([Change(job, admitted(job))])
    assert caught.value.__cause__ is None
    assert store.get([job.id]) == {job.id: admitted(job)}
    assert far.apply([Change(job, admitted(job))]) == [Applied(False, admitted(job))]


def test_a_job_whose_reply_was_lost_was_created(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    known, fresh = a_job("known"), some_jobs(2)
    store.insert([known])
    proxy.lose_reply("insert")
    again = replace(known, priority=9)
    assert far.insert([fresh[0], again, fresh[1]]) == [Inserted(True, fresh[0]), Inserted(False, known), Inserted(True, fresh[1])]
    assert proxy.idle
    assert len(store.page(JobFilter(), 9).jobs) == 3


def test_one_job_given_twice_at_once_is_created_once(store: JobStore) -> None:
    job = a_job("k")
    assert store.insert([job, job]) == [Inserted(True, job), Inserted(False, job)]


def test_a_slot_whose_reply_was_lost_is_still_given_to_one_caller(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    proxy.lose_reply("insert")
    assert far.claim_run("backup", "1", "a")
    assert proxy.idle
    assert not far.claim_run("backup", "1", "a")
    store.claim_run("backup", "2", "b")
    proxy.lose_reply("insert")
    assert not far.claim_run("backup", "2", "a")


def test_a_lease_whose_reply_was_lost_is_held_under_one_token(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    proxy.lose_reply("findAndModify")
    lease = lease_of(far)
    assert proxy.idle
    assert lease_of(far).token == lease.token
    assert store.acquire_lease(lease.name, "b", LONG_S) is None
    proxy.lose_reply("findAndModify")
    assert far.renew_lease(lease, LONG_S).token == lease.token


def test_numbers_whose_reply_was_lost_are_given_to_nobody_else(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    proxy.lose_reply("findAndModify")
    far.insert([a_job("a")])
    store.insert([a_job("b")])
    assert [job.key for job in store.page(JobFilter(), 9).jobs] == ["b", "a"]


# ---- leases and pauses -------------------------------------------------------------------------------------------


def test_a_holder_that_is_stopped_between_reading_its_lease_and_writing_changes_nothing(
    far: JobStore, proxy: MongoProxy, store: JobStore
) -> None:
    job = downloading(store, "k")
    lease = lease_of(store, owner="a", ttl_s=SHORT_S)
    taken = []

    def taken_over() -> None:
        until(lambda: store.now() > lease.until)
        taken.append(lease_of(store, owner="b"))

    proxy.hold("update", taken_over)
    with pytest.raises(LeaseLost):
        far.apply([Change(job, job.noted(NOW, "late"))], lease)
    assert taken[0].token > lease.token
    assert store.get([job.id]) == {job.id: job}


def test_progress_of_a_holder_that_is_stopped_is_not_recorded(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    job = downloading(store, "k")
    lease = lease_of(store, ttl_s=SHORT_S)
    proxy.hold("update", lambda: until(lambda: store.now() > lease.until))
    with pytest.raises(LeaseLost):
        far.record_progress({job.id: Progress(9, 10, 1)}, lease)
    assert store.get([job.id]) == {job.id: job}


def test_progress_of_ended_jobs_among_others_is_no_lost_lease(store: JobStore) -> None:
    job = downloading(store, "k")
    store.record_progress({job.id: Progress(1, 2), "no such job": Progress()}, lease_of(store))
    assert store.get([job.id])[job.id].progress == Progress(1, 2)


# ---- documents ---------------------------------------------------------------------------------------------------


def raw(store: MongoStore, job: Job) -> dict[str, Any]:
    document = store._connection.collection(queries.JOBS).find_one({"_id": job.id})
    assert document is not None
    return document


def test_a_document_has_what_queries_look_for_only_while_it_holds(store: MongoStore) -> None:
    job = a_torrent_job("k")
    store.insert([job])
    assert {name: raw(store, job).get(name) for name in ("undescribed", "needs_owner", "at_engine", "untold")} == {
        "undescribed": True,
        "needs_owner": None,
        "at_engine": None,
        "untold": 1,
    }
    seq = raw(store, job)["seq"]
    moved = change(store, job, admitted(job))
    assert (raw(store, job)["needs_owner"], raw(store, job)["at_engine"]) == (True, "aria2")
    store.mark_sent({job.id: 1})
    change(store, moved, moved.moved(State.CANCELLED, NOW, "cancelled"))
    document = raw(store, job)
    assert not {"undescribed", "needs_owner", "at_engine", "untold"} & document.keys()
    assert document["seq"] == seq
    assert document["changed"] > seq


def test_a_change_may_raise_what_was_told_and_never_lowers_it(store: JobStore) -> None:
    job = downloading(store, "k")
    raised = change(store, job, job.noted(NOW, sent=3))
    assert store.get([job.id]) == {job.id: raised}
    assert store.unsent(9) == []
    lowered = change(store, raised, raised.noted(NOW, sent=1))
    assert store.get([job.id]) == {job.id: replace(lowered, sent=3)}
    assert store.unsent(9) == []


def test_the_marks_of_writers_are_bounded(store: MongoStore) -> None:
    job = a_job("k")
    store.insert([job])
    for _ in range(queries.OPS_KEPT + 3):
        job = change(store, job, job.noted(NOW))
    marks = raw(store, job)["ops"]
    assert len(set(marks)) == len(marks) == queries.OPS_KEPT
    assert all(isinstance(mark, ObjectId) for mark in marks)


def test_a_change_carries_neither_progress_nor_the_place_of_recording() -> None:
    job = a_job("k")
    update = queries.apply(Change(job, admitted(job)), 7, ObjectId(), None)
    assert not {"_id", "id", "progress", "seq", "sent"} & update._doc["$set"].keys()


# ---- the indexes -------------------------------------------------------------------------------------------------

_USER = JobFilter(user="u")
_USERS_DONE = JobFilter(user="u", states=(State.DONE, State.FAILED))
_DONE = JobFilter(states=(State.DONE, State.FAILED))
FINDS: dict[str, tuple[str, dict[str, Any], queries.Order, str]] = {
    "at_engine": (queries.JOBS, queries.at_engine("aria2"), [], "jobs_at_engine"),
    "needing_owner": (queries.JOBS, queries.needing_owner("aria2"), queries.OLDEST_CHANGE, "jobs_needing_owner"),
    "in_state": (queries.JOBS, queries.in_state(State.QUEUED, "a"), queries.BY_ID, "jobs_by_state_and_id"),
    "finished": (queries.JOBS, upkeep.ended(9), upkeep.OLDEST, "jobs_by_state"),
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
    "slot": (queries.RUNS, queries.slot("backup", "1"), [], "runs_once"),
    "runs": (queries.RUNS, queries.runs(None), queries.NEWEST, "runs_newest"),
    "runs of a name": (queries.RUNS, queries.runs("backup"), queries.NEWEST, "runs_by_name"),
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


# ---- the connection ----------------------------------------------------------------------------------------------


def test_a_closed_store_says_so(opener: Opener) -> None:
    store = opener()
    store.ping()
    store.close()
    for call in (store.ping, store.now, store.counts, lambda: store.insert([a_job("k")])):
        with pytest.raises(Transient, match="closed in this process"):
            call()


def test_limits_of_nothing_find_nothing(store: JobStore) -> None:
    store.insert([a_job("k"), a_torrent_job("t")])
    store.claim_run("backup", "1", "a")
    assert store.in_state(State.QUEUED, 0) == store.unsent(0) == store.undescribed(0) == store.needing_owner("aria2", 0) == []
    assert store.runs(None, 0) == []
    assert store.page(JobFilter(), 0).jobs == ()


def test_a_server_that_goes_silent_is_a_passing_fault_within_the_time_out(hasty: JobStore, proxy: MongoProxy) -> None:
    job, awake = a_job("k"), threading.Event()
    hasty.insert([job])
    proxy.hold("update", lambda: awake.wait(WAIT_S), times=2)
    with pytest.raises(Transient, match="the server did not answer in time"):
        hasty.apply([Change(job, admitted(job))])
    awake.set()


def test_a_request_that_the_server_sees_late_changes_nothing_after_the_one_that_was_sent_for_it(
    hasty: JobStore, proxy: MongoProxy, store: JobStore
) -> None:
    job, second, seen = a_job("k"), threading.Event(), threading.Event()
    hasty.insert([job])
    proxy.hold("update", lambda: second.wait(WAIT_S))
    assert hasty.apply([Change(job, admitted(job))]) == [Applied(True, admitted(job))]
    proxy.lose_reply("update", then=seen.set)
    second.set()
    assert seen.wait(WAIT_S), "the server has answered the late one"
    assert store.get([job.id]) == {job.id: admitted(job)}


def test_a_dropped_database_is_noticed_before_anything_is_recorded(store: MongoStore) -> None:
    store._connection._client.drop_database(store._connection.name)
    with pytest.raises(Transient, match="dropped while it was open"):
        store.insert([a_job("k")])
    assert store.get([a_job("k").id]) == {}
