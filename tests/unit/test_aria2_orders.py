"""An order becomes one call to aria2, or a fault; calls are cut into requests that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.torrents import pack
from worker.engines.aria2.orders import CHUNK_BYTES, CHUNK_ORDERS, OPTIONS, Plan, chunks, plan
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause
from worker.ports import Fault, Order

GID = "0" * 15 + "1"


def _order(**changes: Any) -> Order:
    return replace(Order("t", 1, Source(SourceKind.HTTP, "http://origin/file"), "/nowhere/t"), **changes)


def _torrent(document: bytes | None, **changes: Any) -> Order:
    return _order(source=Source(SourceKind.TORRENT, "torrent:x"), document=document, **changes)


def _options(order: Order) -> dict[str, Any]:
    planned = plan(order, GID)
    assert isinstance(planned, Plan)
    _, params = planned.call({})
    options: dict[str, Any] = params[-1]
    return {name: value for name, value in options.items() if name not in OPTIONS}


def test_an_address_is_added_with_its_gid_and_directory_and_does_not_seed() -> None:
    planned = plan(_order(), GID)
    assert isinstance(planned, Plan)
    method, params = planned.call({"out": "x"})
    assert (method, params[0]) == ("aria2.addUri", ["http://origin/file"])
    assert params[1] == {**OPTIONS, "gid": GID, "dir": "/nowhere/t", "seed-time": "0", "out": "x"}


@pytest.mark.parametrize(
    ("ratio", "time_s", "options"),
    [
        (None, 600.0, {"seed-time": "0"}),
        (0.0, 600.0, {"seed-time": "0"}),
        (1.5, 600.0, {"seed-ratio": "1.5", "seed-time": "10"}),
        (1.0, 0.0, {"seed-ratio": "1"}),
    ],
)
def test_it_seeds_up_to_a_ratio_and_minutes(ratio: float | None, time_s: float, options: dict[str, str]) -> None:
    shown = _options(_order(seed_ratio=ratio, seed_time_s=time_s))
    assert {name: value for name, value in shown.items() if name.startswith("seed")} == options


def test_a_selection_is_a_line_of_ranges() -> None:
    assert _options(_order(select=(7, 1, 2, 3)))["select-file"] == "1-3,7"


def test_a_magnet_with_a_selection_pauses_when_its_torrent_has_come() -> None:
    magnet = Source(SourceKind.MAGNET, "magnet:?xt=urn:BTIH:" + "a" * 40)
    assert _options(_order(source=magnet, select=(1,)))["pause-metadata"] == "true"
    assert "pause-metadata" not in _options(_order(source=magnet))
    assert "pause-metadata" not in _options(_torrent(pack().document, select=(1,)))


def test_the_padding_of_a_hybrid_is_not_selected() -> None:
    assert _options(_torrent(pack(version="hybrid").document))["select-file"] == "1,3,5"
    assert "select-file" not in _options(_torrent(pack().document))


def test_files_that_lie_there_without_a_control_file_are_checked(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    order = _torrent(pack().document, directory=str(tmp_path))
    assert _options(order)["check-integrity"] == "true"
    assert "check-integrity" not in _options(replace(order, source=Source(SourceKind.HTTP, "http://origin/file"), document=None))


@pytest.mark.parametrize(
    ("order", "cause", "elsewhere"),
    [
        (_torrent(None), Cause.UNSUPPORTED, False),
        (_torrent(b"<html>"), Cause.SOURCE, False),
        (_torrent(pack(version="v2").document), Cause.UNSUPPORTED, True),
        (_order(source=Source(SourceKind.MAGNET, "magnet:?xt=urn:btmh:1220" + "a" * 64)), Cause.UNSUPPORTED, True),
        (_torrent(pack().document, select=(4,)), Cause.SOURCE, False),
        (_torrent(pack(version="hybrid").document, select=(2,)), Cause.SOURCE, False),
    ],
)
def test_what_aria2_would_take_and_do_wrong_is_refused(order: Order, cause: Cause, elsewhere: bool) -> None:
    fault = plan(order, GID)
    assert isinstance(fault, Fault)
    assert (fault.cause, fault.passing, fault.elsewhere) == (cause, False, elsewhere)


def test_requests_have_bounds_and_what_is_larger_stands_alone() -> None:
    small, large = Plan("s", _order()), Plan("l", _torrent(bytes(CHUNK_BYTES)))
    assert large.size > CHUNK_BYTES > 100 * small.size
    parts = list(chunks([*[small] * (CHUNK_ORDERS + 1), large, small]))
    assert [len(part) for part in parts] == [CHUNK_ORDERS, 1, 1, 1]
    assert list(chunks([])) == []
