"""Copies that are broken off."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.store_jobs import until
from tests.integration.migrate.copying import LARGE, TIMEOUT_S, Haul, everything_in, started_haul
from worker.store import open_store


@pytest.mark.parametrize(
    ("kind", "failpoint"),
    [
        ("sqlite", "migrate.torrent:kill:3"),
        ("sqlite", "migrate.jobs:kill:4"),
        ("sqlite", "migrate.runs:kill:2"),
        ("mongodb", "migrate.jobs:kill:2"),
    ],
)
def test_a_killed_copy_is_a_part_of_the_source_and_the_next_run_makes_it_whole(
    haul: Haul, large: str, any_target: str, tmp_path: Path, failpoint: str
) -> None:
    with started_haul(tmp_path, large, any_target, failpoint=failpoint) as process:
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL
    whole, part = everything_in(large), everything_in(any_target)
    assert part != whole
    jobs, runs, torrents = part
    assert whole[0][LARGE - len(jobs) :] == jobs, "the oldest come first"
    assert whole[1][LARGE - len(runs) :] == runs
    assert {job.description.document for job in jobs if job.description} == set(torrents), "no job is there before its torrent"
    again = haul(large, any_target, "--json").json
    assert again["copied"]["jobs"] == LARGE - len(jobs)
    assert again["copied"]["runs"] == LARGE - len(runs)
    assert everything_in(any_target) == whole


def test_an_interrupted_copy_says_how_to_go_on_and_keeps_others_out_until_then(haul: Haul, large: str, target: str, tmp_path: Path) -> None:
    with started_haul(tmp_path, large, target, failpoint="migrate.jobs:hang:2") as process:
        with closing(open_store(target)) as store:
            until(lambda: sum(store.counts().values()) == 400, TIMEOUT_S)
        second = haul(large, target)
        assert (second.code, second.out) == (2, "")
        assert f"process {process.pid} runs the stack" in second.err
        for url in (large, target):
            with closing(open_store(url)) as store:
                leases = ("admit", "engine:aria2", "engine:qbittorrent")
                assert [store.acquire_lease(name, "a supervisor", 1) for name in leases] == [None] * 3
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert f"stopped (copying: 200 of {LARGE}); what was copied stays, and the same command goes on\n" in err
    with closing(open_store(large)) as store:
        assert store.acquire_lease("engine:aria2", "a supervisor", 0.0) is not None, "the leases were released"
    assert haul(large, target, "--json").json["copied"] == {"jobs": LARGE - 400, "torrents": 0, "runs": LARGE}
    assert everything_in(target) == everything_in(large)
