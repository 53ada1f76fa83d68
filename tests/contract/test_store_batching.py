"""The store whose writes are put together: the contract over SQLite, and what it promises of writes over MongoDB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.contract.store_contract import StoreSuite
from tests.contract.store_jobs import NOW, WAIT_S, a_job, downloading, some_jobs
from tests.contract.store_leases import LeaseSuite
from tests.contract.store_outbox import OutboxSuite
from tests.contract.store_progress import ProgressSuite
from tests.contract.store_races import StoreRaces
from tests.contract.store_suite import Opener, StoreFixtures, lease_of
from tests.contract.store_writes import WriteSuite
from tests.mongo_proxy import through
from tests.mongodb import with_options
from worker.jobs.errors import LeaseLost, Rejected
from worker.jobs.model import Job, Progress
from worker.limits import RECORD_BYTES_MAX
from worker.metrics import Metrics
from worker.ports import Applied, Change, Inserted, JobStore
from worker.store import open_store
from worker.store.batching import BatchingStore


def batching(url: str) -> BatchingStore:
    """As `wiring.build` opens a store."""
    return BatchingStore(open_store(url), Metrics())


class OverSqlite:
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return partial(batching, f"sqlite:///{tmp_path}/data/haul.db")


class OverMongo:
    @pytest.fixture
    def opener(self, mongo_url: str) -> Opener:
        return partial(batching, with_options(mongo_url, "maxPoolSize=30"))


class TestContract(OverSqlite, StoreSuite):
    pass


class TestThreads(OverSqlite, StoreFixtures):
    """What the threads of one process do to each other; those of many processes meet in the inner store only."""

    jobs = 60
    test_threads_of_one_process_share_a_store = StoreRaces.test_threads_of_one_process_share_a_store
    test_what_was_acknowledged_is_there_after_a_kill = StoreRaces.test_what_was_acknowledged_is_there_after_a_kill


class TestMongoWrites(OverMongo, WriteSuite):
    test_a_thousand_jobs_are_read_at_once = None  # it reads


class TestMongoProgress(OverMongo, ProgressSuite, OutboxSuite):
    pass


class TestMongoLeases(OverMongo, LeaseSuite):
    pass


# ---- many callers at once ------------------------------------------------------------------------------------------

CALLERS = 8
T = TypeVar("T")


def at_once(call: Callable[[int], T]) -> list[T | Exception]:
    """What so many callers get who begin at the same time."""
    barrier = threading.Barrier(CALLERS)

    def one(number: int) -> T | Exception:
        barrier.wait(WAIT_S)
        try:
            return call(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(CALLERS) as threads:
        return list(threads.map(one, range(CALLERS)))


@pytest.fixture(params=["sqlite", "mongodb", "mongodb whose answers are lost"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BatchingStore]:
    """A store whose writes are put together; each first answer to an insert and to an update of the last is lost, twice."""
    url = f"sqlite:///{tmp_path}/haul.db"
    if request.param != "sqlite":
        url = request.getfixturevalue("mongo_url")
    if "lost" in request.param:
        proxy = request.getfixturevalue("proxy")
        url = through(url, proxy, "retryWrites=false")
    with closing(batching(url)) as store:
        if "lost" in request.param:
            proxy.lose_reply("insert", times=2)
            proxy.lose_reply("update", times=2)
        yield store
        if "lost" in request.param:
            assert proxy.idle, "no answer was lost"


def test_of_many_who_ask_for_one_key_one_creates_it_and_all_get_their_own_besides(store: JobStore) -> None:
    shared, job = a_job("shared"), a_job("changed")
    store.insert([job])
    answers = at_once(lambda number: store.insert([a_job(f"{number}"), replace(shared, priority=number)]))
    assert all(isinstance(answer, list) for answer in answers), answers
    pairs = [answer for answer in answers if isinstance(answer, list)]
    assert [own for own, _ in pairs] == [Inserted(True, a_job(f"{number}")) for number in range(CALLERS)]
    recorded = store.get([shared.id])[shared.id]
    assert [other.created for _, other in pairs].count(True) == 1
    assert pairs[recorded.priority][1] == Inserted(True, recorded)
    assert all(other.job == recorded for _, other in pairs)
    won = at_once(lambda number: store.apply([Change(job, job.noted(NOW, f"{number}"))]))
    changes = [answer[0] for answer in won if isinstance(answer, list)]
    now = store.get([job.id])[job.id]
    assert len(changes) == CALLERS
    assert [change.won for change in changes].count(True) == 1
    assert all(change.job == now for change in changes)
    assert changes[int(now.events[-1].text)].won


def test_of_mixed_bulks_with_keys_that_others_have_and_changes_that_conflict_each_caller_gets_his_own_answers(store: JobStore) -> None:
    known = [a_job(f"known {n}") for n in range(5)]
    store.insert(known)
    stale = [change.new for change in (Change(job, job.noted(NOW, "newer")) for job in known)]
    assert all(a.won for a in store.apply([Change(job, new) for job, new in zip(known, stale, strict=True)]))

    def bulk(number: int) -> tuple[list[Job], list[Inserted]]:
        own, shared = [a_job(f"{number} {n}") for n in range(5)], [replace(a_job(f"shared {n}"), priority=number) for n in range(5)]
        mixed = [job for three in zip(own, shared, known, strict=True) for job in three]
        return mixed, store.insert(mixed)

    inserted = [answer for answer in at_once(bulk) if isinstance(answer, tuple)]
    assert len(inserted) == CALLERS
    records = store.get({job.id for asked, _ in inserted for job in asked})
    for number, (asked, answers) in enumerate(inserted):
        assert [answer.job for answer in answers] == [records[job.id] for job in asked]
        mine = [answer.created for answer in answers]
        assert mine[0::3] == [True] * 5
        assert mine[1::3] == [records[job.id].priority == number for job in asked[1::3]]
        assert mine[2::3] == [False] * 5

    def change(number: int) -> tuple[list[Change], list[Applied]]:
        old = [records[job.id] if at % 3 < 2 else job for at, job in enumerate(inserted[number][0])]  # the known ones as they were
        changes = [Change(job, job.noted(NOW, f"by {number}")) for job in old]
        return changes, store.apply(changes)

    changed = [answer for answer in at_once(change) if isinstance(answer, tuple)]
    assert len(changed) == CALLERS
    records = store.get(records)
    for number, (changes, answers) in enumerate(changed):
        assert [answer.job for answer in answers] == [records[each.old.id] for each in changes]
        won = [answer.won for answer in answers]
        assert won[0::3] == [True] * 5
        assert won[1::3] == [records[each.old.id].events[-1].text == f"by {number}" for each in changes[1::3]]
        assert won[2::3] == [False] * 5
    assert [records[job.id] for job in known] == stale


def test_one_callers_lost_lease_wrong_change_or_huge_record_is_his_alone(tmp_path: Path) -> None:
    with closing(batching(f"sqlite:///{tmp_path}/haul.db")) as store:
        spoils(store)


def test_one_callers_fault_is_his_alone_on_mongodb_too(mongo_url: str) -> None:
    with closing(batching(mongo_url)) as store:
        spoils(store)


def spoils(store: JobStore) -> None:
    jobs = some_jobs(CALLERS)
    store.insert(jobs)
    good, lost = lease_of(store, "good"), lease_of(store, "lost")
    store.release_lease(lost)
    huge = replace(a_job("huge"), message="x" * RECORD_BYTES_MAX)

    def ask(number: int) -> object:
        job = jobs[number]
        if number == 0:
            return store.apply([Change(job, job.noted(NOW))], lost)
        if number == 1:
            return store.apply([Change(job, job)])
        if number == 2:
            return store.insert([huge])
        if number == 3:
            return store.insert([a_job("small")])
        return store.apply([Change(job, job.noted(NOW))], good if number % 2 else None)

    answers = at_once(ask)
    assert [type(answer) for answer in answers] == [LeaseLost, ValueError, Rejected, *[list] * (CALLERS - 3)]
    assert "16 MiB" in str(answers[2])
    found = store.get([job.id for job in [*jobs, huge, a_job("small")]])
    assert [found[job.id].version for job in jobs] == [1, 1, 1, 1, *[2] * (CALLERS - 4)]
    assert huge.id not in found
    assert a_job("small").id in found


@pytest.mark.parametrize("store", ["sqlite", "mongodb"], indirect=True)
def test_a_record_that_grows_too_large_is_refused_and_stays_as_it_was(store: JobStore) -> None:
    job, other = a_job("k"), a_job("other")
    store.insert([job, other])
    with pytest.raises(Rejected, match="larger than 16 MiB"):
        store.apply([Change(job, job.noted(NOW, "x", message="x" * (RECORD_BYTES_MAX + 1)))])
    assert store.get([job.id]) == {job.id: job}
    assert store.apply([Change(other, other.noted(NOW))])[0].won


def test_what_was_kept_back_is_there_for_others_once_the_store_is_closed_or_the_lease_is_let_go(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/haul.db"
    with closing(open_store(url)) as other:
        store = batching(url)
        job = downloading(store, "k")
        for act in (store.release_lease, lambda _: store.close()):
            lease = lease_of(store)
            for done in (1, 2):
                store.record_progress({job.id: Progress(done + other.get([job.id])[job.id].progress.done)}, lease)
            last = store.get([job.id])[job.id].progress
            act(lease)
            assert other.get([job.id])[job.id].progress == last
