"""Replies that are lost, and requests that never arrive or arrive late."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, WAIT_S, a_job, admitted, change, some_jobs
from tests.contract.store_suite import LONG_S, lease_of
from tests.mongo_proxy import MongoProxy
from worker.jobs.errors import Transient
from worker.ports import Applied, Change, Inserted, JobFilter, JobStore
from worker.store.mongo import queries


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
