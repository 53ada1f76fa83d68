"""Every index of the MongoDB store, and every filter and update of jobs, limits and counters, named; other parts have theirs beside them.

Text of users is only ever a value of `$set` or of an equality, where nothing in it is interpreted; in a pipeline it would
stand behind `$literal`. What a name stands for is in `mongo_documents`; further fields of a job's document are

    seq       place in the order of recording
    changed   place in the order of changes, from the same counter
    ops       marks of the last writes that recorded or changed it
    promised  what `needs.promised` says, and `short` what `needs.short_since` does, while they say something
    untold    version of the last event for the outside, while that has not been told it
    unposted  the same, of the receiver of its webhook
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from worker.jobs.hooks import Hook
from worker.jobs.model import Progress
from worker.jobs.states import LIVE, TERMINAL, State
from worker.ports import Change, JobFilter
from worker.store.mongo.documents import FLAGS, Document, job_document, last_event

Pipeline = list[Mapping[str, Any]]
Order = Sequence[tuple[str, int]]

JOBS = "jobs"
TORRENTS = "torrents"
LEASES = "leases"
RUNS = "runs"
LIMITS = "limits"
BREAKERS = "breakers"
COUNTERS = "counters"

#: The server's clock in milliseconds, read by the server at each use: no clock of ours decides whether a lease is over.
NOW_MS: Mapping[str, Any] = {"$toLong": "$$NOW"}

#: The answer to a batch of updates tells how many found their document, not which: that is read from the marks. So many of
#: other writers may be put upon ours before we read.
OPS_KEPT = 16

# ---- indexes ---------------------------------------------------------------------------------------------------

INDEXES: Mapping[str, tuple[IndexModel, ...]] = {
    JOBS: (
        IndexModel([("seq", DESCENDING)], name="jobs_newest"),
        IndexModel([("state", ASCENDING), ("seq", DESCENDING)], name="jobs_by_state"),
        IndexModel([("user", ASCENDING), ("state", ASCENDING), ("seq", DESCENDING)], name="jobs_by_user"),
        IndexModel([("state", ASCENDING), ("_id", ASCENDING)], name="jobs_by_state_and_id"),
        IndexModel([("user", ASCENDING), ("created_at", ASCENDING)], name="jobs_by_user_and_time"),
        IndexModel(
            [("at_engine", ASCENDING), ("state", ASCENDING)],
            name="jobs_at_engine",
            partialFilterExpression={"at_engine": {"$exists": True}},
        ),
        IndexModel(
            [("at_engine", ASCENDING), ("changed", ASCENDING)], name="jobs_needing_owner", partialFilterExpression={"needs_owner": True}
        ),
        IndexModel([("changed", ASCENDING)], name="jobs_unsent", partialFilterExpression={"untold": {"$exists": True}}),
        IndexModel(
            [("hook.receiver", ASCENDING), ("hook.not_before", ASCENDING), ("changed", ASCENDING)],
            name="jobs_unposted",
            partialFilterExpression={"unposted": {"$exists": True}},
        ),
        IndexModel(
            [("undescribed", ASCENDING), ("_id", ASCENDING)],
            name="jobs_undescribed",
            partialFilterExpression={"undescribed": True},
        ),
        IndexModel(
            [("unprobed", ASCENDING), ("_id", ASCENDING)],
            name="jobs_unprobed",
            partialFilterExpression={"unprobed": True},
        ),
        IndexModel([("promised", ASCENDING)], name="jobs_promised", partialFilterExpression={"promised": {"$exists": True}}),
        IndexModel([("short", ASCENDING)], name="jobs_short", partialFilterExpression={"short": {"$exists": True}}),
        *(
            IndexModel([(name, ASCENDING)], name=f"jobs_{name.rpartition('.')[2]}", partialFilterExpression={name: {"$exists": True}})
            for name in ("holding", "following", "contents", "description.document")
        ),
    ),
    RUNS: (
        IndexModel([("name", ASCENDING), ("slot", ASCENDING)], name="runs_once", unique=True),
        IndexModel([("name", ASCENDING), ("seq", DESCENDING)], name="runs_by_name"),
        IndexModel([("seq", DESCENDING)], name="runs_newest"),
    ),
}

# ---- orders ----------------------------------------------------------------------------------------------------

NEWEST: Sequence[tuple[str, int]] = (("seq", DESCENDING),)
OLDEST: Sequence[tuple[str, int]] = (("seq", ASCENDING),)
SHORT_LONGEST: Sequence[tuple[str, int]] = (("short", ASCENDING),)
OLDEST_CHANGE: Sequence[tuple[str, int]] = (("changed", ASCENDING),)
BY_ID: Sequence[tuple[str, int]] = (("_id", ASCENDING),)
DUE: Sequence[tuple[str, int]] = (("hook.not_before", ASCENDING), ("changed", ASCENDING))

# ---- jobs: writes ----------------------------------------------------------------------------------------------


def apply(change: Change, place: int, op: ObjectId, until_ms: int | None) -> UpdateOne:
    """The compare-and-set of one change; it never touches `progress`, `hook` nor `seq`, and `sent` only ever rises."""
    old, new = change.old, change.new
    document = job_document(new)
    absent = [name for name in FLAGS if name not in document]
    document["changed"] = place
    last = last_event(new)
    for name, sent in (("untold", new.sent), ("unposted", new.hook.sent if new.hook else last)):
        if last <= sent:
            absent.append(name)
        elif last == new.version:
            document[name] = last  # an event of this very version; of older ones only the marks know
    marks: Document = {"$each": [op], "$slice": -OPS_KEPT}
    update: Document = {"$set": document, "$max": {"sent": new.sent}, "$push": {"ops": marks}}
    if absent:
        update["$unset"] = dict.fromkeys(absent, "")
    return UpdateOne({"_id": old.id, "version": old.version, "state": old.state.value} | within(until_ms), update)


def set_progress(id: str, progress: Progress, until_ms: int, engine: str | None) -> UpdateOne:
    """The progress of a job that is not terminal, and at this engine when one is given."""
    where = {"_id": id, "state": {"$in": sorted(LIVE)}} | (at_engine(engine) if engine else {}) | within(until_ms)
    return UpdateOne(where, {"$set": {"progress": asdict(progress)}})


def mark_sent(id: str, sent: int) -> UpdateOne:
    """Raise `sent`, and strike `untold` when that was the last event."""
    told: Document = {"$cond": [{"$lte": ["$untold", sent]}, "$$REMOVE", "$untold"]}
    return UpdateOne({"_id": id, "sent": {"$lt": sent}}, [{"$set": {"sent": sent, "untold": told}}])


def mark_posted(id: str, hook: Hook) -> UpdateOne:
    """Move `hook` on, and strike `unposted` when that was the last event."""
    behind: list[Document] = [{"hook.sent": {"$lt": hook.sent}}, {"hook.sent": hook.sent, "hook.failures": {"$lt": hook.failures}}]
    told: Document = {"$cond": [{"$lte": ["$unposted", hook.sent]}, "$$REMOVE", "$unposted"]}
    marks = {f"hook.{name}": getattr(hook, name) for name in ("sent", "failures", "failing_since", "not_before")}
    return UpdateOne({"_id": id, "$or": behind}, [{"$set": {**marks, "unposted": told}}])


def within(until_ms: int | None) -> Document:
    """The condition that a lease has not ended by the server's own clock; none without a lease."""
    return {} if until_ms is None else {"$expr": {"$lt": [NOW_MS, until_ms]}}


# ---- jobs: reads -----------------------------------------------------------------------------------------------


def of_ids(ids: list[str]) -> Document:
    """Documents with these ids: jobs or torrents."""
    return {"_id": {"$in": ids}}


def at_engine(engine: str) -> Document:
    """`JobStore.at_engine`."""
    return {"at_engine": engine}


def needing_owner(engine: str) -> Document:
    """`JobStore.needing_owner`, to be read by `OLDEST_CHANGE`."""
    return {"at_engine": engine, "needs_owner": True}


def in_state(state: State, after: str | None) -> Document:
    """`JobStore.in_state`, to be read by `BY_ID`."""
    return {"state": state.value, "_id": {"$gt": after or ""}}


def undescribed(after: str | None) -> Document:
    """`JobStore.undescribed`, to be read by `BY_ID`."""
    return {"undescribed": True, "_id": {"$gt": after or ""}}


def unprobed(after: str | None) -> Document:
    """`JobStore.unprobed`, to be read by `BY_ID`."""
    return {"unprobed": True, "_id": {"$gt": after or ""}}


def short_of_space() -> Document:
    """`JobStore.short_of_space`, to be read by `SHORT_LONGEST`; the condition on the value lets a planner see the index."""
    return {"short": {"$exists": True, "$gte": 0}}


def unsent() -> Document:
    """`JobStore.unsent`, to be read by `OLDEST_CHANGE`; naming `changed` lets a planner see the index that has no other key."""
    return {"untold": {"$exists": True}, "changed": {"$gt": 0}}


def unposted(receiver: str, now: float) -> Document:
    """`JobStore.unposted`, to be read by `DUE`."""
    return {"unposted": {"$exists": True}, "hook.receiver": receiver, "hook.not_before": {"$lte": now}}


def ended(behind: int) -> Document:
    """`JobStore.finished`, to be read by `OLDEST`; the server merges the states in order."""
    return {"state": {"$in": sorted(TERMINAL)}, "seq": {"$gt": behind}}


def page(where: JobFilter, before: int) -> Document:
    """`JobStore.page`, to be read by `NEWEST`; a user's jobs of any state are those of each, which the server merges in order."""
    states = where.states if where.states is not None else tuple(State) if where.user is not None else None
    of_states = {} if states is None else {"state": {"$in": sorted(set(states))}}
    of_user = {} if where.user is None else {"user": where.user}
    return of_user | of_states | {"seq": {"$lt": before}}


def holding(transfers: list[str]) -> Document:
    """`JobStore.holding`."""
    return {"holding": {"$in": transfers}}


def following(transfers: list[str]) -> Document:
    """`JobStore.following`."""
    return {"following": {"$in": transfers}}


def sharing(contents: list[str]) -> Document:
    """`JobStore.sharing`."""
    return {"contents": {"$in": contents}}


# ---- limits: {_id: name, value} --------------------------------------------------------------------------------


def set_limit(name: str, value: Any) -> UpdateOne:
    """Make the limit this one."""
    return UpdateOne({"_id": name}, {"$set": {"value": value}}, upsert=True)


# ---- counters --------------------------------------------------------------------------------------------------


def take(n: int) -> Document:
    """Take `n` numbers of a counter, the last of which is what it then stands at."""
    return {"$inc": {"n": n}}
