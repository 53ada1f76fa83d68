"""Restores: a MongoDB that goes away in the middle of one"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.contract.broken_archive import comes_through, hasten
from tests.contract.store_jobs import a_job
from tests.faults.catalogue import fault
from tests.integration.backups import Installation
from tests.mongo_faults import HOWS
from tests.mongo_proxy import MongoProxy, mongo_proxy, through
from tests.tcp_proxy import TcpProxy
from worker.store import open_store

#: Longer than a lease is held without being renewed, and longer than a call of the store.
AWAY_S = 25.0
ENDS_S = 300.0
LOST, BUSY, SILENT = "the answer is lost", "the server is busy", "nothing comes back"


@fault(
    "A MongoDB breaks every kind of call of a backup, a restore or a drill, three times each",
    provoked="a proxy that cuts before the server has the call, in the middle of it, of its answer, or before that; that answers as a"
    " primary that steps down, or is busy; that is silent for ever",
    holds="each goes on from there: documents, hashes, indexes and options are the same, nothing is left beside, and it was told",
)
@pytest.mark.parametrize(("work", "how"), [*product(("dump", "some", "apart"), HOWS), ("empty", BUSY), ("over", LOST)])
@pytest.mark.timeout(600)  # what is silent is found out by time alone
def test_every_kind_of_call_may_break_in_every_way(
    mongo_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, how: str
) -> None:
    hasten(monkeypatch, 2.0 if how == SILENT else None)
    assert comes_through(mongo_url, tmp_path, work, how, 1 if how == SILENT else 3)


@pytest.fixture
def proxy(mongo_url: str) -> Iterator[MongoProxy]:
    with mongo_proxy(urlsplit(mongo_url).netloc) as proxy:
        yield proxy


@fault(
    "A MongoDB is away for 25 seconds in the middle of `haul backup restore --force`",
    provoked="a proxy that refuses every connection from the first batch of documents on, for longer than leases wait for their renewal",
    holds="the command says so, goes on when the server is back, and ends well; the records are those of the backup, no lease is held",
)
def test_a_server_that_is_away_for_longer_than_the_leases_last_does_not_end_a_restore(
    mongo_url: str, proxy: MongoProxy, tmp_path: Path
) -> None:
    here = Installation(tmp_path, mongo_url)
    then = here.everything()
    name = here.haul("create", "--json").json["name"]
    with closing(open_store(mongo_url)) as store:
        store.insert([a_job("later")])
    with TcpProxy(proxy.address) as line:

        def go_away() -> None:
            line.refuse()
            threading.Timer(AWAY_S, line.heal).start()

        proxy.hold("insert", go_away)
        far = through(mongo_url, proxy, "retryWrites=false").replace(proxy.address, line.address)
        command = [sys.executable, "-m", "worker.cli", "backup", "restore", name, "--force", "--yes"]
        environment = {**here.environment, "HAUL_STORE_URL": far}
        ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=ENDS_S, check=False)
    assert ran.returncode == 0, ran
    assert "trying again" in ran.stderr
    assert proxy.idle
    assert here.everything() == then
    with closing(open_store(mongo_url)) as store:
        assert store.acquire_lease("engine:aria2", "another", 30)
