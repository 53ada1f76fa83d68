"""Names that fit, and files that only look complete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engines.aria2.files import damaged, fitting_names, name_max, short_name, unaccounted
from worker.jobs.directories import has_hole
from worker.jobs.torrents import TorrentFile


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("film.mkv", "film.mkv"),
        ("x" * 300 + ".mkv", "x" * 36 + ".mkv"),
        ("é" * 30 + ".mkv", "é" * 18 + ".mkv"),
        ("x" * 20 + "." + "y" * 100, "x" * 20 + "." + "y" * 19),
        ("x" * 100, "x" * 40),
        ("..", "download"),
        ("", "download"),
        ("a/b\\c\x00d", "a_b_c_d"),
    ],
)
def test_a_name_is_shortened_at_a_character_and_keeps_its_ending(name: str, short: str) -> None:
    assert short_name(name, 40) == short


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=400))
def test_every_name_becomes_one_that_fits_and_stays_the_same_then(name: str) -> None:
    short = short_name(name, 249)
    assert 0 < len(short.encode()) <= 249
    assert short not in (".", "..")
    assert os.path.basename(short) == short
    assert short_name(short, 249) == short


def test_a_name_leaves_room_for_the_control_file(tmp_path: Path) -> None:
    assert name_max(str(tmp_path)) == os.pathconf(tmp_path, "PC_NAME_MAX") - len(".aria2")


def test_only_files_that_cannot_be_trusted_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "whole.bin").write_bytes(b"x" * 100_000)
    (tmp_path / "empty.bin").touch()
    for name in ("holes.bin", "begun.bin"):
        with (tmp_path / name).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 1_000_000)
            file.write(b"x" * 100_000)
    (tmp_path / "begun.bin.aria2").write_bytes(b"control")
    (tmp_path / "full.bin").write_bytes(b"x" * 1000)
    (tmp_path / "full.bin.aria2").touch()
    (tmp_path / "alone.bin.aria2").touch()
    assert has_hole(str(tmp_path / "begun.bin"))
    found = {os.path.basename(path) for path in damaged(str(tmp_path))}
    assert found == {"holes.bin", "full.bin", "full.bin.aria2", "alone.bin.aria2"}
    assert damaged(str(tmp_path / "not there")) == []


def test_of_a_torrent_only_empty_control_files_are_damaged(tmp_path: Path) -> None:
    with (tmp_path / "holes.bin").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1_000_000)
    (tmp_path / "holes.bin.aria2").touch()
    assert damaged(str(tmp_path), has_pieces=True) == [str(tmp_path / "holes.bin.aria2")]


def test_files_without_any_control_file_are_unaccounted(tmp_path: Path) -> None:
    assert not unaccounted(str(tmp_path / "not there"))
    assert not unaccounted(str(tmp_path))
    (tmp_path / "saved.torrent").touch()
    assert not unaccounted(str(tmp_path))
    (tmp_path / "pack").mkdir()
    assert unaccounted(str(tmp_path))
    (tmp_path / "pack.aria2").write_bytes(b"control")
    assert not unaccounted(str(tmp_path))


@given(st.lists(st.lists(st.text(min_size=1, max_size=3).map(lambda part: part * 120), min_size=1, max_size=3), min_size=1, max_size=12))
def test_names_of_a_torrent_fit_and_no_two_are_the_same(paths: list[list[str]]) -> None:
    unique = list(dict.fromkeys(tuple(part.replace("/", "_").replace("\0", "_") for part in path) for path in paths))
    files = [TorrentFile(("pack", *path), 1, number) for number, path in enumerate(unique, 1)]
    names = dict(name.split("=", 1) for name in fitting_names(files, "/"))
    assert all(len(part.encode()) <= 249 for path in names.values() for part in path.split("/"))
    laid = [names.get(str(file.number), "/".join(file.path)) for file in files]
    assert len(set(laid)) == len(laid)


def test_names_that_fit_are_left_alone_and_others_are_told_apart() -> None:
    long = "n" * 300
    paths = [("pack", "é.bin"), ("pack", f"{long}.mkv"), ("pack", f"{long}2.mkv"), ("pack", "a\tb"), ("pack", "bad\ufffd.txt")]
    names = fitting_names([TorrentFile(path, 1, number) for number, path in enumerate(paths, 1)], "/")
    assert names == [f"2=pack/{'n' * 245}.mkv", f"3=pack/{'n' * 241} (1).mkv", "4=pack/a_b", "5=pack/bad_.txt"]
