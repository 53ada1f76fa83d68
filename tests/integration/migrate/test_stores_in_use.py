"""Stores that somebody works on."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.store_jobs import a_job, admitted
from tests.integration.migrate.copying import Haul, everything_in, recorded
from worker.cli.lock import held
from worker.store import open_store
from worker.store.sqlite.torrents import SqliteTorrents


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_store_whose_stack_runs_is_refused(haul: Haul, source: str, target: str, side: str) -> None:
    directory = Path({"source": source, "target": target}[side].removeprefix("sqlite:///")).parent
    with held(directory):
        ended = haul(source, target)
    assert ended.code == 2
    assert f"process {os.getpid()} runs the stack of {directory}" in ended.err
    assert haul(source, target).code == 0


@pytest.mark.parametrize("lease", ["admit", "engine:aria2", "engine:named-by-a-record"])
@pytest.mark.parametrize("side", ["from", "to"])
def test_a_store_that_somebody_works_on_is_refused(haul: Haul, source: str, target: str, side: str, lease: str) -> None:
    recorded(source, [admitted(a_job("there"), "named-by-a-record")])
    with closing(open_store(source if side == "from" else target)) as store:
        mine = store.acquire_lease(lease, "a supervisor", 60)
        assert mine is not None
        ended = haul(source, target)
        assert ended.code == 2
        assert f"haul: {side}: somebody works on this store and holds its lease {lease!r}" in ended.err
        assert everything_in(target) == ([], [], {})
        store.release_lease(mine)
    assert haul(source, target).code == 0


def test_a_lease_that_is_taken_over_meanwhile_ends_the_copy(haul: Haul, source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.supervision.lease.LEASE_RENEW_S", -1.0)
    keep = SqliteTorrents.keep_torrent

    def take_over(torrents: SqliteTorrents, document: bytes) -> str:
        with torrents._file.writing() as connection:
            connection.execute("UPDATE leases SET owner = 'a supervisor', token = token + 1 WHERE name = 'admit'")
        return keep(torrents, document)

    monkeypatch.setattr(SqliteTorrents, "keep_torrent", take_over)
    ended = haul(source, target)
    assert ended.code == 1
    assert "to: somebody took over the lease 'admit' of this store: stop Haul on it, and begin again" in ended.err
