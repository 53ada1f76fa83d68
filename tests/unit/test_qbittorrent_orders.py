"""An order in qBittorrent's terms, and the files of a torrent by its numbers and names."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.origin import content
from tests.torrents import FILES, Version, pack
from worker.engines.qbittorrent.files import double, found_files, long_names, reprioritised, wanted
from worker.engines.qbittorrent.orders import accepted, held, infohashes, parameters, readable
from worker.engines.qbittorrent.rows import infohashes as of_row
from worker.jobs.errors import Failed
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause
from worker.ports import Order

V1, V2 = "0123456789abcdef0123456789abcdef01234567", "ab" * 32
BASE32 = base64.b32encode(bytes.fromhex(V1)).decode()


def magnet(uri: str, **more: Any) -> Order:
    return Order("t1", 1, Source(SourceKind.MAGNET, uri), "/d", **more)


def document(data: bytes | None, **more: Any) -> Order:
    return Order("t1", 1, Source(SourceKind.TORRENT, "torrent:x"), "/d", document=data, **more)


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        (f"magnet:?xt=urn:btih:{V1}&dn=x", {V1}),
        (f"magnet:?dn=x&xt=urn:btih:{V1.upper()}", {V1}),
        (f"magnet:?xt=urn:btih:{BASE32}", {V1}),
        (f"magnet:?xt=urn:btih:{BASE32.lower()}", {V1}),
        (f"magnet:?xt=urn:btmh:1220{V2}", {V2, V2[:40]}),
        (f"magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{V2}", {V1, V2, V2[:40]}),
        (f"magnet:?xt=urn%3Abtih%3A{V1}", {V1}),
        (f"magnet:?xt=urn:btih:{V1}0", set()),
        ("magnet:?xt=urn:btih:zz", set()),
        (f"magnet:?xt=urn:btmh:1114{V1}", set()),
    ],
)
def test_the_names_of_a_magnet_links_torrent(uri: str, names: set[str]) -> None:
    assert infohashes(magnet(uri)) == names
    assert readable(magnet(uri)) is bool(names)


@pytest.mark.parametrize("version", ["v1", "hybrid", "v2"])
def test_the_names_of_a_documents_torrent_are_those_a_row_may_have(version: Version) -> None:
    made = pack(version=version)
    names = infohashes(document(made.document))
    assert names == {made.v1 or "", made.v2 or "", (made.v2 or "")[:40]} - {""}
    assert names == of_row(made.infohash, {"infohash_v1": made.v1 or "", "infohash_v2": made.v2 or ""})


def test_a_link_that_would_be_several_is_not_readable() -> None:
    assert not readable(magnet(f"magnet:?xt=urn:btih:{V1}\nhttp://inside/x.torrent"))
    assert not readable(magnet(f"http://inside/?xt=urn:btih:{V1}"))


def test_every_choice_is_made_by_us_and_none_by_the_settings_of_qbittorrent() -> None:
    chosen = parameters(document(pack().document), "haul-1", stopped=False)
    assert {name: chosen[name] for name in ("use_auto_torrent_management", "use_download_path", "is_stopped")} == dict.fromkeys(
        ("use_auto_torrent_management", "use_download_path", "is_stopped"), False
    )
    assert (chosen["save_path"], chosen["tags"], chosen["content_layout"], chosen["stop_condition"]) == ("/d", "haul-1", "Original", "None")
    assert "urls" not in chosen


@pytest.mark.parametrize(
    ("changes", "ratio", "minutes"),
    [
        ({}, 0, -1),
        ({"seed_ratio": 0.0, "seed_time_s": 90.0}, 0, -1),
        ({"seed_ratio": 1.5, "seed_time_s": 90.0}, 1.5, 2),
        ({"seed_ratio": 2.0}, 2.0, -1),
    ],
)
def test_seeding_is_limited_by_ratio_and_minutes_or_is_none(changes: dict[str, Any], ratio: float, minutes: int) -> None:
    chosen = parameters(magnet(f"magnet:?xt=urn:btih:{V1}", **changes), "haul-1", stopped=False)
    assert (chosen["ratio_limit"], chosen["seeding_time_limit"], chosen["share_limit_action"]) == (ratio, minutes, "Stop")


def test_what_has_files_to_arrange_stops_before_it_begins() -> None:
    assert held(document(pack().document, select=(1,)))
    assert held(document(pack({"n" * 241: b"x"}).document))
    assert not held(document(pack().document))
    assert parameters(document(pack().document, select=(1,)), "x", stopped=True)["is_stopped"]
    described_first = magnet(f"magnet:?xt=urn:btih:{V1}", select=(1,))
    assert not held(described_first)
    chosen = parameters(described_first, "x", stopped=False)
    assert (chosen["is_stopped"], chosen["stop_condition"]) == (False, "MetadataReceived")


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Ok.", True),
        ("Fails.", False),
        ({"success_count": 1, "failure_count": 0, "pending_count": 0, "added_torrent_ids": [V1]}, True),
        ({"success_count": 0, "failure_count": 0, "pending_count": 1, "added_torrent_ids": []}, True),
        ({"success_count": 0, "failure_count": 1, "pending_count": 0, "added_torrent_ids": []}, False),
    ],
)
def test_an_answer_to_an_order_is_words_or_from_5_2_on_counts(answer: Any, yes: bool) -> None:
    assert accepted(answer) is yes


@pytest.mark.parametrize(("version", "numbers"), [("v1", (1, 3)), ("hybrid", (1, 5)), ("v2", (1, 3))])
def test_files_are_selected_by_the_torrents_numbers_which_count_padding(version: Version, numbers: tuple[int, ...]) -> None:
    torrent = pack(FILES, version=version).document
    assert wanted(torrent, numbers) == {0, 2}
    assert wanted(torrent, (1, 9)) is None
    assert wanted(torrent, (0,)) is None


def test_only_what_differs_is_given_another_priority() -> None:
    files = [{"index": n, "priority": priority} for n, priority in enumerate((1, 0, 1, 0, 7))]
    assert reprioritised(files, {0, 1, 4}) == {0: [2], 1: [1]}
    assert reprioritised(files, {0, 2, 4}) == {}


def test_files_with_one_name_are_told_apart_one_after_the_other() -> None:
    files = [{"index": n, "name": f"pack/{'é' * 118}.mkv"} for n in range(3)]
    for _ in range(2):
        found = double(files)
        assert found is not None
        old, new = found
        assert len(Path(new).name.encode()) <= 240
        next(file for file in files if file["name"] == old)["name"] = new
    assert double(files) is None
    assert [Path(str(file["name"])).name[-6:] for file in files] == [" 0.mkv", " 1.mkv", "éé.mkv"]


def test_long_names_are_counted_in_bytes() -> None:
    assert long_names(pack({"é" * 121: b"x"}).document)
    assert not long_names(pack({"é" * 120: b"x"}).document)
    assert not long_names(b"no torrent")


def rows(*names: str, size: int = 10) -> list[dict[str, Any]]:
    return [{"index": n, "name": name, "size": size, "priority": 1} for n, name in enumerate(names)]


def test_the_selected_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content(10))
    listed = [*rows("a"), {"index": 1, "name": ".unwanted/b", "size": 5, "priority": 0}]
    assert [(file.path, file.size) for file in found_files(str(tmp_path), listed)] == [(str(tmp_path / "a"), 10)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside", "outside its work directory"),
        ("link", "outside its work directory"),
        ("absent", "cannot be read"),
        ("short", "has 9 bytes"),
        ("unfinished", "ending of a file that is not complete"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_incomplete(tmp_path: Path, name: str, words: str) -> None:
    place = tmp_path / "work"
    place.mkdir()
    (tmp_path / "outside").write_bytes(content(10))
    (place / "link").symlink_to(tmp_path / "outside")
    (place / "short").write_bytes(content(9))
    (place / "unfinished.!qB").write_bytes(content(10))
    with pytest.raises(Failed, match=words) as refused:
        found_files(str(place), rows(name))
    assert refused.value.cause == Cause.INCOMPLETE


def test_files_that_lie_in_one_are_never_complete(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content(10))
    with pytest.raises(Failed, match="the same name") as refused:
        found_files(str(tmp_path), rows("a", "a"))
    assert refused.value.cause == Cause.SOURCE
    assert found_files(str(tmp_path), [*rows("a"), {**rows("a")[0], "priority": 0}])


def test_an_order_without_its_document_has_no_names() -> None:
    assert infohashes(document(None)) == infohashes(replace(document(b"x"), document=b"")) == set()
