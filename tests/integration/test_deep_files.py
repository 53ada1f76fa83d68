"""Retention on files that are deeper than Python can follow, as a torrent may have them."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_retention import Keeper
from tests.unit.test_undeletable import a_chain


def test_files_of_any_depth_go_and_keep_no_night_from_its_work(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    deep, other = keeper.done("1"), keeper.done("2")
    keeper.days = 31
    with a_chain(keeper.place(deep).parent / "chain"):
        report = keeper.keep(keep_files_days=30.0)
    assert (report.ok, report.figures["files_removed"]) == (True, 2), report.summary
    assert not keeper.place(deep).parent.exists()
    assert not keeper.place(other).exists()
    keeper.services.close()
