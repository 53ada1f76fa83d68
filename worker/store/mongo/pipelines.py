"""What the server counts and adds up, each from an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.jobs.states import IN_SLOT, LIVE, State
from worker.store.mongo.documents import Document
from worker.store.mongo.queries import Pipeline

#: `JobStore.followed`, from an index alone.
FOLLOWED: Sequence[Mapping[str, Any]] = (
    {"$match": {"following": {"$gt": ""}}},
    {"$group": {"_id": "$following", "n": {"$sum": 1}}},
)


def promised() -> Pipeline:
    """`JobStore.promised`."""
    expected: Document = {"$ifNull": ["$progress.total", "$promised"]}
    owed: Document = {"$max": [0, {"$subtract": [expected, {"$ifNull": ["$progress.allocated", 0]}]}]}
    return [
        {"$match": {"promised": {"$exists": True, "$gte": 0}}},
        {"$group": {"_id": {"engine": "$at_engine", "out": "$out"}, "owed": {"$sum": owed}, "whole": {"$sum": expected}}},
    ]


def counts(states: Iterable[State]) -> Pipeline:
    """`JobStore.counts`, from an index alone."""
    return [{"$match": {"state": {"$in": sorted(states)}}}, {"$group": {"_id": "$state", "n": {"$sum": 1}}}]


def engine_counts() -> Pipeline:
    """`JobStore.engine_counts`, from an index alone."""
    return [
        {"$match": {"at_engine": {"$gt": ""}, "state": {"$in": sorted(IN_SLOT)}}},
        {"$group": {"_id": "$at_engine", "n": {"$sum": 1}}},
    ]


def engine_states() -> Pipeline:
    """`JobStore.engine_states`, from an index alone."""
    by: Document = {"engine": "$at_engine", "state": "$state"}
    return [{"$match": {"at_engine": {"$gt": ""}}}, {"$group": {"_id": by, "n": {"$sum": 1}}}]


def user_counts(users: Sequence[str]) -> Pipeline:
    """How many jobs of each user are in each state that `JobStore.usage` counts, from an index alone."""
    states = [State.QUEUED.value, *sorted(IN_SLOT)]
    by: Document = {"user": "$user", "state": "$state"}
    return [{"$match": {"user": {"$in": users}, "state": {"$in": states}}}, {"$group": {"_id": by, "n": {"$sum": 1}}}]


def user_bytes(users: Sequence[str], since: float) -> Pipeline:
    """Bytes of each user's jobs recorded since then, for `JobStore.usage`."""

    def known(path: str) -> Document:
        return {"$ifNull": [path, 0]}

    none_selected: Document = {"$eq": [{"$size": {"$ifNull": ["$select", []]}}, 0]}
    described: Document = {"$cond": [none_selected, known("$description.size"), 0]}
    expected: Document = {"$max": [known("$progress.total"), known("$progress.done"), known("$probe.size"), described]}
    unfinished: Document = {"$cond": [{"$in": ["$state", sorted(LIVE)]}, expected, known("$progress.done")]}
    size: Document = {"$cond": [{"$eq": ["$state", State.DONE.value]}, known("$result.size"), unfinished]}
    return [{"$match": {"user": {"$in": users}, "created_at": {"$gte": since}}}, {"$group": {"_id": "$user", "n": {"$sum": size}}}]


def slot_counts() -> Pipeline:
    """`JobStore.slot_counts`: by index to those that take a slot."""
    return [engine_counts()[0], {"$group": {"_id": {"user": "$user", "tier": "$tier"}, "n": {"$sum": 1}}}]


def slot_uris() -> Pipeline:
    """`JobStore.slot_uris`, in the same way."""
    return [engine_counts()[0], {"$group": {"_id": "$source.uri", "n": {"$sum": 1}}}]
