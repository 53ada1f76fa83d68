"""Who holds a transfer, who waits for it, and what content it is."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.store_jobs import NOW, a_job, admitted, change, downloading, started
from tests.contract.store_suite import StoreFixtures, end
from worker.jobs import content
from worker.jobs.model import Job, Transfer
from worker.jobs.probe import Probe
from worker.jobs.states import Cause, Reason, State
from worker.ports import JobStore


def follower(store: JobStore, key: str, transfer: str) -> Job:
    """A recorded job that waits for a transfer."""
    job = a_job(key)
    store.insert([job])
    return change(store, job, job.noted(NOW, "waits", reason=Reason.DUPLICATE, follows=transfer))


def transfer_of(job: Job) -> Transfer:
    """That of a job that has one."""
    assert job.transfer is not None
    return job.transfer


class SharingSuite(StoreFixtures):
    def test_a_transfer_is_held_while_anything_may_go_on_from_its_files(self, store: JobStore) -> None:
        one, other = downloading(store, "one"), downloading(store, "other")
        borrowed = change(store, other, other.noted(NOW, transfer=replace(transfer_of(other), id=one.id, turn=1, size=5)))
        by_id = sorted((one, borrowed), key=lambda job: job.id)
        assert sorted(store.holding([one.id, "nobody's"]), key=lambda job: job.id) == by_id
        assert store.holding([other.id]) == store.holding([]) == []
        failed = change(store, one, one.moved(State.FAILED, NOW, "failed", cause=Cause.NOT_FOUND))
        assert failed in store.holding([one.id]), "a retry goes on from its files"
        end(store, borrowed, State.DONE)
        assert store.holding([one.id]) == [failed]
        seeds = downloading(store, "seeds")
        finishing = change(store, seeds, seeds.moved(State.FINISHING, NOW, "finishing"))
        done = change(store, finishing, finishing.moved(State.DONE, NOW, "done", seeding=True))
        assert store.holding([seeds.id]) == [done]

    def test_who_waits_for_a_transfer_is_found_by_it_and_counted(self, store: JobStore) -> None:
        first, second, other = waiting = [follower(store, key, transfer) for key, transfer in (("1", "t"), ("2", "t"), ("3", "u"))]
        assert sorted(store.following(["t"], 9), key=lambda job: job.key or "") == [first, second]
        assert sorted(store.following(["t", "u", "v"], 9), key=lambda job: job.key or "") == waiting
        assert len(store.following(["t", "u"], 2)) == 2
        assert store.following([], 9) == []
        assert store.followed() == {"t": 2, "u": 1}
        change(store, first, first.moved(State.PAUSED, NOW, "paused", reason=None))
        change(store, second, admitted(second))
        assert store.following(["t"], 9) == []
        assert store.followed() == {"u": 1}
        change(store, other, other.noted(NOW, follows=None))
        assert store.followed() == {}

    def test_a_content_is_found_by_each_of_its_names_while_a_live_job_holds_its_transfer(self, store: JobStore) -> None:
        probe = Probe(5, '"tag"')
        job = replace(a_job("k", sha256="a" * 64), probe=probe)
        alone = a_job("alone", sha256="b" * 64)
        store.insert([job, alone])
        first, second = names = content.keys(job)
        assert store.sharing(names) == []
        moved = change(store, job, admitted(job))
        assert store.sharing([first]) == store.sharing([second]) == store.sharing([*names, "another"]) == [moved]
        assert store.sharing(content.keys(alone)) == store.sharing([]) == []
        running = change(store, moved, started(moved))
        assert store.sharing(names) == [running]
        end(store, running, State.DONE)
        assert store.sharing(names) == []
