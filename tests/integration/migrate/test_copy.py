"""`haul store migrate`: everything of a grown installation arrives, as it was and in its order."""

from __future__ import annotations

from contextlib import closing

from tests.contract.store_jobs import NOW
from tests.integration.grown import TORRENTS
from tests.integration.migrate.copying import LARGE, SMALL, Haul, everything_in
from worker.jobs.states import State
from worker.ports import Drain
from worker.store import open_store


def test_all_of_a_grown_installation_arrives_as_it_was_and_in_its_order(haul: Haul, large: str, any_target: str) -> None:
    before = everything_in(large)
    shown = haul(large, any_target, "--json").json
    assert everything_in(any_target) == before
    assert everything_in(large) == before, "the source keeps all it has"
    assert [len(part) for part in before] == [LARGE, LARGE, TORRENTS]
    assert shown["jobs"] == {state: LARGE // len(State) for state in State}
    assert shown["copied"] == {"jobs": LARGE, "torrents": TORRENTS, "runs": LARGE}
    assert (shown["torrents"], shown["runs"], shown["dry_run"]) == (TORRENTS, LARGE, False)


def test_the_steps_find_the_same_work_in_the_copy(haul: Haul, source: str, any_target: str) -> None:
    assert haul(source, any_target).code == 0
    with closing(open_store(source)) as one, closing(open_store(any_target)) as other:
        for store in (one, other):
            assert store.undescribed(1)
            assert store.unsent(1)
        for look in (
            lambda store: store.undescribed(SMALL),
            lambda store: sorted(store.unsent(SMALL), key=lambda job: job.id),
            lambda store: sorted(store.at_engine("qbittorrent"), key=lambda job: job.id),
            lambda store: sorted(store.needing_owner("aria2", SMALL), key=lambda job: job.id),
            lambda store: store.engine_counts(),
            lambda store: store.counts(),
        ):
            assert look(one) == look(other)


def test_the_copy_of_a_copy_has_the_same_digest_and_a_second_run_copies_nothing(haul: Haul, source: str, target: str) -> None:
    first = haul(source, target, "--json").json
    again = haul(source, target, "--json").json
    third = haul(target, f"{target}.copy", "--json").json
    assert again["copied"] == {"jobs": 0, "torrents": 0, "runs": 0}
    assert first["sha256"] == again["sha256"] == third["sha256"]


def test_people_are_told_counts_digest_and_what_to_set(haul: Haul, source: str, target: str) -> None:
    ended = haul(source, target)
    assert f"cancelled    {SMALL // len(State)}\n" in ended.out
    assert f"equal: {SMALL} jobs, {TORRENTS} torrents and {SMALL} runs in both, SHA-256 " in ended.out
    assert ended.out.endswith(f"now set HAUL_STORE_URL={target}\n")
    assert f"haul: comparing: 0 of {SMALL}" in ended.err


def test_limits_set_at_run_time_go_along_and_others_are_not_overwritten(haul: Haul, source: str, any_target: str) -> None:
    mine = {"tiers/rate/free": 2.5, "users/running/ü/x": None}
    with closing(open_store(source)) as store:
        store.set_limits(mine)
    assert haul(source, any_target).code == 0
    with closing(open_store(any_target)) as store:
        assert store.limits() == mine
        store.set_limits({"tiers/rate/free": 3})
    ended = haul(source, any_target)
    assert ended.code == 1
    assert "limit tiers/rate/free" in ended.err
    with closing(open_store(any_target)) as store:
        assert store.limits() == {**mine, "tiers/rate/free": 3}


def test_engines_that_are_drained_stay_so_in_the_copy_and_are_not_overwritten(haul: Haul, source: str, any_target: str) -> None:
    mine = {"aria2": Drain(move=True, since=NOW), "gone": Drain(since=NOW)}
    with closing(open_store(source)) as store:
        for engine, drain in mine.items():
            store.drain(engine, drain)
    assert haul(source, any_target).code == 0
    with closing(open_store(any_target)) as store:
        assert store.drains() == mine
        store.drain("aria2", Drain())
    ended = haul(source, any_target)
    assert ended.code == 1
    assert "drain aria2" in ended.err
