"""The numbers of the profiles: one table, which the documents show as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.coordination.bounds import Bounds
from worker.limits import RPC_TIMEOUT_S
from worker.pools import HTTP_CONNECTIONS, POOLS, STORE_IDLE_S
from worker.settings import SettingsError, load
from worker.store.mongo.address import OPTIONS, TIMEOUT_MS

DOCUMENT = Path(__file__).parents[2] / "docs" / "pools.md"


def shown() -> dict[str, list[str]]:
    """The rows of the table in the document, by their first cell."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return {name: cells for name, *cells in rows}


def test_the_document_shows_the_numbers_that_are_in_force() -> None:
    table, options, pools = shown(), OPTIONS.values(), POOLS.values()
    assert table[""] == list(POOLS)
    assert table["MongoDB, connections"] == [str(each["maxPoolSize"]) for each in options] == [str(each.store) for each in pools]
    assert table["MongoDB, closed after so long unused"] == [f"{each['maxIdleTimeMS'] // 1_000} s" for each in options]
    assert table["MongoDB, wait for a server when a process starts"] == [
        f"{each['serverSelectionTimeoutMS'] // 1_000} s" for each in options
    ]
    assert table["MongoDB, a whole call with the wait for a connection"] == [f"{each['timeoutMS'] // 1_000} s" for each in options]
    assert table["MongoDB, write concern"] == [str(each["w"]) for each in options]
    assert table["Redis, connections for calls, and as many for calls that wait on it"] == [str(each.redis) for each in pools]
    assert table["Redis, one answer"] == [f"{Bounds().answer_s:g} s"] * len(POOLS)
    assert table["HTTP, connections to each engine"] == [str(HTTP_CONNECTIONS)] * len(POOLS)
    assert table["HTTP, a whole call"] == [f"{RPC_TIMEOUT_S:g} s"] * len(POOLS)


def test_every_operation_and_every_wait_for_a_connection_has_an_end() -> None:
    for options in OPTIONS.values():
        assert options["timeoutMS"] == options["waitQueueTimeoutMS"] == options["socketTimeoutMS"] == TIMEOUT_MS
        assert options["maxIdleTimeMS"] == STORE_IDLE_S * 1_000


def test_an_unknown_profile_is_refused_by_the_name_of_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"HAUL_PROFILE: .*development"):
        load(data_dir=tmp_path, profile="huge")
