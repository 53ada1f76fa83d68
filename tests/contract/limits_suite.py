"""What every `JobStore` promises about limits set at run time, and about what each user has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.store_jobs import NOW, a_job, a_torrent_job, admitted, change, described, downloading, started
from tests.contract.store_suite import Opener, StoreFixtures, lease_of
from worker.jobs.model import Job, Progress, Result
from worker.jobs.probe import Probe
from worker.jobs.states import State
from worker.ports import JobStore, Usage


def recorded(store: JobStore, key: str, **fields: Any) -> Job:
    """A queued job with these fields, recorded."""
    job = replace(a_job(key), **fields)
    store.insert([job])
    return job


class LimitsSuite(StoreFixtures):
    def test_a_limit_that_was_set_is_there_for_everybody_and_the_others_stay(self, store: JobStore, opener: Opener) -> None:
        assert store.limits() == {}
        store.set_limits({"tiers/rate/free": 2.5, "users/running/ü.$/x": 3})
        store.set_limits({"tiers/rate/free": 7, "tiers/rate/vip": None})
        store.set_limits({})
        other = opener()
        assert other.limits() == {"tiers/rate/free": 7, "tiers/rate/vip": None, "users/running/ü.$/x": 3}
        other.close()

    def test_a_limit_that_was_dropped_is_gone_and_dropping_it_again_changes_nothing(self, store: JobStore) -> None:
        store.set_limits({"tiers/rate/free": 1, "tiers/rate/vip": 2})
        store.set_limits({"tiers/rate/admin": 3}, drop=["tiers/rate/free", "unknown"])
        store.set_limits({}, drop=["tiers/rate/free"])
        assert store.limits() == {"tiers/rate/vip": 2, "tiers/rate/admin": 3}

    def test_usage_counts_each_user_s_own_jobs_by_what_they_take(self, store: JobStore) -> None:
        for key in "abc":
            downloading(store, key)
        submitting = recorded(store, "d")
        change(store, submitting, admitted(submitting))
        recorded(store, "e")
        paused = recorded(store, "f")
        change(store, paused, paused.moved(State.PAUSED, NOW, "paused"))
        store.insert([a_job("a", "v")])
        assert store.usage(["u", "v", "nobody"], NOW) == {"u": Usage(running=4, queued=1), "v": Usage(queued=1)}
        assert store.usage([], NOW) == {}

    def test_a_job_counts_from_the_time_it_was_recorded_with_the_bytes_it_is_expected_to_have(self, store: JobStore) -> None:
        store.insert([replace(a_job("yesterday"), created_at=NOW - 1, probe=Probe(1_000_000))])
        recorded(store, "unknown")
        recorded(store, "probed", probe=Probe(100))
        torrent = described(a_torrent_job("whole"))
        store.insert([replace(torrent, probe=None)])
        store.insert([replace(described(a_torrent_job("some files")), probe=None, select=(2,))])
        lease = lease_of(store)
        store.record_progress({downloading(store, "engine knows").id: Progress(5, 1_000)}, lease)
        store.record_progress({downloading(store, "engine knows not").id: Progress(10_000)}, lease)
        whole = torrent.description.size if torrent.description else 0
        assert store.usage(["u"], NOW)["u"].size == 100 + whole + 1_000 + 10_000
        assert store.usage(["u"], NOW + 1)["u"].size == 0

    @pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
    def test_a_job_that_ended_counts_what_it_got(self, store: JobStore, state: State) -> None:
        lease = lease_of(store)
        broken = downloading(store, "broken")
        store.record_progress({broken.id: Progress(70, 1_000)}, lease)
        change(store, broken, broken.moved(state, NOW, "over"))
        done = started(admitted(recorded(store, "done")))
        finishing = replace(done, state=State.FINISHING, result=Result("/f", 5))
        store.insert([replace(finishing, id="f" * 24, state=State.DONE)])
        assert store.usage(["u"], NOW)["u"].size == 75
