"""File names from outside made safe."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.delivery.names import NAME_BYTES_MAX, numbered, safe_name, safe_paths


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        ("film.mkv", "film.mkv"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("a\\b", "a_b"),
        ("a\x00b\nc", "a_b_c"),
        ("", "download"),
        (".", "_"),
        ("..", "__"),
        ("  padded  ", "padded"),
        ("🎬 film.mkv", "🎬 film.mkv"),
    ],
)
def test_a_name_keeps_all_that_is_safe(outside: str, inside: str) -> None:
    assert safe_name(outside) == inside


def test_a_long_name_is_cut_between_characters_and_keeps_its_suffix() -> None:
    name = safe_name("é" * 300 + ".tar")
    assert name.endswith("é.tar")
    assert len(name.encode()) <= NAME_BYTES_MAX


@given(st.text())
def test_no_name_leaves_its_directory_or_is_too_long(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    name = safe_name(text)
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert "\x00" not in name
    assert len(name.encode()) <= NAME_BYTES_MAX


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(1, 9999))
def test_a_numbered_name_is_a_name(text: str, number: int) -> None:
    name = numbered(safe_name(text), number)
    assert f"({number})" in name
    assert len(name.encode()) <= NAME_BYTES_MAX


def test_paths_of_a_torrent_keep_their_tree_and_each_part_is_safe() -> None:
    paths = [PurePath(path) for path in ("disc 1/a\x01.flac", "disc 1/b.flac", "x" * 300 + ".nfo")]
    assert [str(path) for path in safe_paths(paths)] == [
        "disc 1/a_.flac",
        "disc 1/b.flac",
        "x" * 251 + ".nfo",
    ]


def test_parts_that_become_the_same_are_told_apart_and_the_answer_is_the_same_every_time() -> None:
    outside = [PurePath(path) for path in ("a\x01/one", "a\x02/one", "a_", "a\x01/two", "b\x01.txt", "b\x02.txt")]
    safe = safe_paths(outside)
    assert [str(path) for path in safe] == ["a_/one", "a_ (1)/one", "a_ (2)", "a_/two", "b_.txt", "b_ (1).txt"]
    assert safe == safe_paths(outside)
