"""What a document holds, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bson import ObjectId

from tests.contract.store_jobs import NOW, a_job, a_torrent_job, admitted, change, downloading
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import Change, JobStore
from worker.store.mongo import queries
from worker.store.mongo.store import MongoStore


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
