"""Backups beside `.torrent` files that come and go: both kinds of store, through the real command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.store_unnamed import DOCUMENT, forgotten, naming, noted_before, notes
from tests.integration.backups import Installation
from worker import cli
from worker.store import open_store


@pytest.fixture(params=["sqlite", "mongodb"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    url = request.getfixturevalue("mongo_url") if request.param == "mongodb" else ""
    return Installation(tmp_path, url, jobs=0)


@pytest.fixture
def haul(here: Installation, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run `haul backup` in this process."""
    for name, value in here.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("worker.maintenance.backup.pace.NICE", 0)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["haul", "backup", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code

    return run


def test_jobs_that_are_put_back_alone_come_with_the_torrents_that_went_since_and_notes_come_with_those(
    here: Installation, haul: Callable[..., None]
) -> None:
    with closing(open_store(here.url)) as store:
        name, nobodys = store.keep_torrent(DOCUMENT), store.keep_torrent(b"nobody's")
        job = naming(store, "a", name)
        noted_before(store, nobodys)
        note = notes(store, nobodys)
    haul("create")
    with closing(open_store(here.url)) as store:
        forgotten(store, job)
        assert store.forget_torrents([name, nobodys], noted_before(store, name, nobodys)) == 2
        store.claim_run("later", "1", "x")
    haul("restore", "--only", "jobs", "--force", "--yes")
    with closing(open_store(here.url)) as store:
        assert store.get([job.id]) == {job.id: job}
        assert store.torrents([name]) == {name: DOCUMENT}
        assert notes(store, name, nobodys) == note
        assert "later" in {run.name for run in store.runs(None, 99)}, "everything else stays as it is"
