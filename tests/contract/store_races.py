"""What every `JobStore` promises to many processes and threads at once, killed ones included.

Used as `store_suite` is. Each of the eight processes is started once; a race begins when all of them have opened the store.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

import pytest

from tests.contract.store_jobs import NOW, WAIT_S, a_job, joined, some_jobs, ticks
from tests.contract.store_suite import Opener, StoreFixtures
from worker.jobs.errors import LeaseLost
from worker.jobs.model import Job, Progress
from worker.ports import Change, JobStore, Run

RACERS = 8
RACE_S = 60.0
SPAWN = multiprocessing.get_context("spawn")
T = TypeVar("T")
Race = Callable[[Callable[[JobStore, int], T]], list[T]]


class Gate:
    """Where the racers of a process wait for the others; set once in each process by `enter`."""

    barrier: Barrier


def enter(barrier: Barrier) -> None:
    Gate.barrier = barrier


def run_one(opener: Opener, run: Callable[[JobStore, int], Any], number: int) -> Any:
    """One racer's run, from the moment all have opened the store."""
    Gate.barrier.wait(RACE_S)
    store = opener()
    try:
        Gate.barrier.wait(RACE_S)
        return run(store, number)
    finally:
        store.close()


def insert_all(store: JobStore, number: int, *, n: int) -> list[str]:
    """Insert the same jobs as everybody, in an order of one's own; the ids this racer created."""
    jobs = some_jobs(n)
    random.Random(number).shuffle(jobs)
    return [a.job.id for i in range(0, n, 20) for a in store.insert(jobs[i : i + 20]) if a.created]


def change_all(store: JobStore, number: int, *, n: int) -> list[tuple[str, int]]:
    """Change the same jobs as everybody, five rounds; (id, version) of what this racer won."""
    won = []
    ids = [job.id for job in some_jobs(n)]
    for turn in range(5):
        random.Random(number * 100 + turn).shuffle(ids)
        for i in range(0, n, n // 4):
            jobs = store.get(ids[i : i + n // 4]).values()
            answers = store.apply([Change(job, job.noted(NOW, f"racer {number}")) for job in jobs])
            won += [(a.job.id, a.job.version) for a in answers if a.won and a.job]
    return won


@dataclass(frozen=True)
class Held:
    """A lease as its holder saw it."""

    name: str
    token: int
    since: float
    until: float


def hold_leases(store: JobStore, number: int) -> list[Held]:
    """Take one of three leases again and again, count one further under it, let go."""
    held = []
    for turn in range(40):
        name = f"lease {(number + turn) % 3}"
        for _ in ticks():
            lease = store.acquire_lease(name, f"racer {number}", WAIT_S)
            if lease:
                break
        assert lease is not None
        since = store.now()
        job = next(iter(store.get([a_job(name).id]).values()))
        (answer,) = store.apply([Change(job, job.noted(NOW))], lease)
        assert answer.won, "somebody else wrote while the lease was held"
        held.append(Held(name, lease.token, since, store.now()))
        store.release_lease(lease)
    return held


def write_after_takeover(store: JobStore, number: int, *, ttl_s: float) -> tuple[int, int]:
    """Take a lease that runs out soon and write under it for as long as that goes; last token and writes made."""
    job_id, token, writes = a_job("shared").id, 0, 0
    for turn in range(15):
        lease = store.acquire_lease("short", f"racer {number} turn {turn}", ttl_s)
        if lease is None:
            continue
        token = lease.token
        try:
            while True:
                job = store.get([job_id])[job_id]
                writes += store.apply([Change(job, job.noted(NOW, f"{token}"))], lease)[0].won
        except LeaseLost:
            pass
    return token, writes


def claim_all(store: JobStore, number: int) -> list[str]:
    """Claim the same slots as everybody; those this racer was given."""
    return [slot for slot in map(str, range(60)) if store.claim_run("backup", slot, f"racer {number}")]


def keep_all(store: JobStore, number: int) -> list[str]:
    """Keep the same torrents and runs as everybody, in an order of one's own; the names of the torrents."""
    documents = [bytes([i]) * 50_000 for i in range(20)]
    random.Random(number).shuffle(documents)
    names = []
    for i, document in enumerate(documents):
        names.append(store.keep_torrent(document))
        store.keep_runs([Run("backup", f"{slot}", f"racer {number}", NOW) for slot in range(i, i + 5)])
    return names


def write_until_killed(opener: Opener, acks: Connection, n: int) -> None:
    """Change `n` jobs a batch, for ever, and tell each batch that returned."""
    store = opener()
    jobs = some_jobs(n)
    store.insert(jobs)
    while True:
        jobs = [answer.job for answer in store.apply([Change(job, job.noted(NOW, "line")) for job in jobs]) if answer.job]
        acks.send(jobs[0].version)


def last_ack_of_killed(opener: Opener, after: int, n: int) -> int:
    """Kill a writer in the middle of its work once it has acknowledged `after` batches; the last version it told."""
    here, there = SPAWN.Pipe(duplex=False)
    writer = SPAWN.Process(target=write_until_killed, args=(opener, there, n))
    writer.start()
    there.close()
    acked = 0
    try:
        while here.poll(RACE_S):
            acked = here.recv()
            if acked == after and writer.pid:
                os.kill(writer.pid, signal.SIGKILL)
    except EOFError:
        pass
    finally:
        writer.kill()
        writer.join(WAIT_S)
        writer.close()
        here.close()
    return acked


class StoreRaces(StoreFixtures):
    #: Jobs that are raced for, a multiple of 20; a quarter of them is a writer's batch. Fewer for a server that is slow by itself.
    jobs = 200
    #: A lease of so long runs out while its holder writes.
    ttl_s = 0.02

    @pytest.fixture(scope="class")
    @classmethod
    def racers(cls) -> Iterator[Pool]:
        with SPAWN.Pool(RACERS, enter, (SPAWN.Barrier(RACERS),)) as pool:
            yield pool
            pool.terminate()
            pool.join()

    @pytest.fixture
    def race(self, racers: Pool, opener: Opener) -> Race[Any]:
        def run(each: Callable[[JobStore, int], T]) -> list[T]:
            return racers.map_async(partial(run_one, opener, each), range(RACERS), chunksize=1).get(RACE_S)

        return run

    def test_of_many_who_record_the_same_jobs_in_a_new_store_one_creates_each(self, race: Race[list[str]], opener: Opener) -> None:
        created = joined(race(partial(insert_all, n=self.jobs)))
        assert sorted(created) == sorted(job.id for job in some_jobs(self.jobs))
        store = opener()
        assert store.get(created) == {job.id: job for job in some_jobs(self.jobs)}
        store.close()

    def test_every_version_of_a_job_has_exactly_one_winner(self, store: JobStore, race: Race[list[tuple[str, int]]]) -> None:
        store.insert(some_jobs(self.jobs))
        won = joined(race(partial(change_all, n=self.jobs)))
        assert len(won) == len(set(won)), "two racers won the same version"
        jobs = store.get(job.id for job in some_jobs(self.jobs))
        assert sorted(won) == sorted((job.id, version) for job in jobs.values() for version in range(2, job.version + 1))
        assert all(len(job.events) == job.version for job in jobs.values())

    def test_a_lease_has_one_holder_at_a_time_and_its_tokens_grow(self, store: JobStore, race: Race[list[Held]]) -> None:
        names = [f"lease {i}" for i in range(3)]
        store.insert([a_job(name) for name in names])
        held = joined(race(hold_leases))
        assert len(held) == RACERS * 40
        for name in names:
            holders = sorted((h for h in held if h.name == name), key=lambda h: h.since)
            for former, later in pairwise(holders):
                assert former.until <= later.since
                assert former.token < later.token
            assert store.get([a_job(name).id])[a_job(name).id].version == 1 + len(holders)

    def test_no_write_under_an_old_token_lands_after_one_under_a_newer(self, store: JobStore, race: Race[tuple[int, int]]) -> None:
        job = a_job("shared")
        store.insert([job])
        results = race(partial(write_after_takeover, ttl_s=self.ttl_s))
        assert max(token for token, _ in results) > 1
        record = store.get([job.id])[job.id]
        assert record.version == 1 + sum(writes for _, writes in results)
        tokens = [int(event.text) for event in record.events if event.type is None]
        assert tokens == sorted(tokens)
        assert len(set(tokens)) > 1

    def test_of_many_who_claim_the_same_slots_one_gets_each(self, store: JobStore, race: Race[list[str]]) -> None:
        assert sorted(joined(race(claim_all))) == sorted(map(str, range(60)))
        assert len(store.runs("backup", 100)) == 60

    def test_what_many_keep_at_once_is_kept_once(self, store: JobStore, race: Race[list[str]]) -> None:
        names = joined(race(keep_all))
        assert len(set(names)) == 20
        assert sorted(store.torrents(names).values()) == [bytes([i]) * 50_000 for i in range(20)]
        assert sorted(int(run.slot) for run in store.runs(None, 100)) == list(range(24))

    @pytest.mark.parametrize("after", [2, 15, 40])
    def test_what_was_acknowledged_is_there_after_a_kill(self, opener: Opener, after: int) -> None:
        acked = last_ack_of_killed(opener, after, self.jobs // 4)
        assert acked >= after
        store = opener()
        jobs = store.get(job.id for job in some_jobs(self.jobs // 4))
        assert len(jobs) == self.jobs // 4
        assert {job.version for job in jobs.values()} <= {acked, acked + 1}
        assert all(len(job.events) == min(job.version, 200) for job in jobs.values()), "a record that is half of one version"
        assert all(a.won for a in store.apply([Change(job, job.noted(NOW)) for job in jobs.values()]))
        store.close()

    def test_threads_of_one_process_share_a_store(self, store: JobStore) -> None:
        jobs = some_jobs(self.jobs // 3)
        store.insert(jobs)
        lease = store.acquire_lease("engine:aria2", "a", RACE_S)
        assert lease is not None

        def work(number: int) -> list[tuple[str, int]]:
            won = []
            for turn in range(20):
                batch: list[Job] = list(store.get(job.id for job in jobs[turn::20]).values())
                answers = store.apply([Change(job, job.noted(NOW, f"thread {number}")) for job in batch], lease)
                won += [(a.job.id, a.job.version) for a in answers if a.won and a.job]
                store.record_progress({job.id: Progress(turn, 20, number) for job in batch}, lease)
                store.counts()
            return won

        with ThreadPoolExecutor(24) as threads:
            won = joined(threads.map(work, range(24)))
        assert len(won) == len(set(won))
        versions = {job.id: job.version for job in store.get(job.id for job in jobs).values()}
        assert len(won) == sum(version - 1 for version in versions.values())
