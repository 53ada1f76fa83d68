"""Our own code is asked by the advisor: nowhere on the path does it loop over reads, scan, or read without a bound."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from pymongo import MongoClient

from tests.integration.whole_path import path_of, walk
from worker.store.advisor import Kind

#: Of one request on a loaded machine the time says nothing, and what repeats in a test is its own doing.
JUDGED = {Kind.REPEATED_SHAPE, Kind.SCAN, Kind.SORT, Kind.UNBOUNDED}


@pytest.fixture(params=["sqlite", "mongodb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'haul.db'}"
    found = request.getfixturevalue("mongo_url")
    assert isinstance(found, str)
    return found


def test_the_whole_path_has_no_loop_of_reads_no_scan_and_no_unbounded_read(url: str, tmp_path: Path) -> None:
    with path_of(url, tmp_path) as (services, advisor, engine):
        walk(services, engine, tmp_path / "out")
        advisor.look(plans=1_000)
        found = [finding.document() for finding in advisor.findings() if finding.kind in JUDGED]
        if url.startswith("mongodb") and is_stand_in(url):
            found = [each for each in found if each["kind"] not in (Kind.SCAN, Kind.SORT) or each["index"]]
        assert found == []
        names = {name for tally in advisor.tallies.all() for name in tally.calls}
    assert {"step admit", "step finish", "step notify", "tick", "sweep", "GET /v1/jobs", "GET /v1/queue"} <= names
    assert advisor.tallies.dropped == 0


def is_stand_in(url: str) -> bool:
    """True for SecantusDB. It passes over partial indexes, and sorts what an index has in order: of scans and sorts only those are ours
    for which there is no index."""
    client: MongoClient[dict[str, object]] = MongoClient(url)
    with closing(client):
        return "secantus" in client.admin.command("serverStatus")
