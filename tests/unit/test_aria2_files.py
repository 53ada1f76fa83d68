"""Names that fit, and files that only look complete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engines.aria2_files import damaged, name_max, short_name
from worker.jobs.directories import has_hole


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
