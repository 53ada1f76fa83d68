"""Text of users that looks like a query."""

from __future__ import annotations

from tests.contract.store_jobs import NOW, a_job, admitted, change
from tests.contract.store_suite import LONG_S, lease_of
from worker.jobs.model import Request, Source, SourceKind, new_job
from worker.ports import JobFilter, JobStore, Run

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
