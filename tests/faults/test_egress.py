"""Egress: links and torrents that lead into private networks, and nothing but Haul's check, or not even that"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.egress.corpus import NOT_BY_QBITTORRENT, cases
from tests.egress.lab import Lab, lab, missing
from tests.faults.catalogue import fault
from worker.cli.servers.qbittorrent import find_qbittorrent

reason = missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))

#: Of the cases that aria2 reads: the rest is there for other programs, and for the next aria2.
REACHED_MIN, REACHED_BY_QBITTORRENT_MIN = 150, 38
qbittorrent = pytest.mark.skipif(find_qbittorrent() is None, reason="not installed: qbittorrent-nox")


@pytest.fixture
def world() -> Iterator[Lab]:
    with lab() as made:
        yield made


@fault(
    "nothing guards aria2",
    provoked="each case of the corpus is given to a real aria2 in a network namespace where every address answers",
    holds="most arrive: the guard's and the check's proofs can fail",
)
def test_without_any_guard_the_cases_do_reach_what_they_try_to(world: Lab, tmp_path: Path) -> None:
    found = world.engine("raw", tmp_path)
    reached = {case.id for case in cases() if case.reached(found["hits"])}
    missed = [case.id for case in cases() if case.reaches and case.id not in reached]
    assert missed == []
    assert len(reached) >= REACHED_MIN


@fault(
    "nothing guards qBittorrent",
    provoked="the same with the cases of torrents and a real qBittorrent",
    holds="most arrive",
)
@qbittorrent
def test_without_any_guard_qbittorrent_reaches_what_the_cases_of_torrents_try_to(world: Lab, tmp_path: Path) -> None:
    found = world.engine("raw", tmp_path, "qbittorrent")
    reached = {case.id for case in cases() if case.reached(found["hits"])}
    assert {case.id for case in cases() if case.of_torrents and case.reaches} - reached <= NOT_BY_QBITTORRENT
    assert len(reached) >= REACHED_BY_QBITTORRENT_MIN
    assert {"seed-http", "magnet-tr-one", "magnet-peer", "magnet-node"} <= reached, "what aria2 does not read"


@fault(
    "a torrent names trackers and peers that only the kernel could refuse",
    provoked="the cases that Haul's check lets pass are given to a real qBittorrent",
    holds="exactly those arrive that docs/egress.md lists",
)
@qbittorrent
def test_what_the_check_cannot_stop_qbittorrent_from_is_listed_and_still_so(world: Lab, tmp_path: Path) -> None:
    found = world.engine("checked", tmp_path, "qbittorrent")
    reached = {case.id for case in cases() if case.reached(found["hits"])}
    assert reached == {case.id for case in cases() if case.stop == "nothing" and case.of_torrents} - NOT_BY_QBITTORRENT
    assert [hit for hit in found["hits"] if not any(case.reached([hit]) for case in cases() if case.id in reached)] == []
    assert found["public"]
