"""What is put in place, and what counts as complete on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.delivery import verify
from worker.delivery.finish import _root
from worker.ports import FoundFile


@pytest.mark.parametrize(
    ("files", "root"),
    [
        (["film.mkv"], "."),
        (["Album/disc 1/a.flac"], "Album/disc 1"),
        (["Album/a.flac", "Album/disc 2/b.flac"], "Album"),
        (["a.bin", "b.bin"], "."),
        (["Album/a.flac", "cover.png"], "."),
    ],
)
def test_what_files_have_in_common_at_the_top_is_the_directory_that_is_put_in_place(files: list[str], root: str) -> None:
    work = Path("/volume/.haul/1/aria2")
    assert _root(tuple(FoundFile(str(work / file), 1) for file in files), work) == work / root


def test_the_one_file_of_a_directory_is_found_without_the_engine(tmp_path: Path) -> None:
    (tmp_path / "film.mkv").write_bytes(b"abc")
    assert verify._only_file(str(tmp_path)) == FoundFile(str(tmp_path / "film.mkv"), 3)


@pytest.mark.parametrize("others", [["film.mkv", "film.mkv.aria2"], ["list.meta4", "film.mkv"], []])
def test_with_anything_beside_it_the_engine_is_asked(tmp_path: Path, others: list[str]) -> None:
    for name in others:
        (tmp_path / name).touch()
    assert verify._only_file(str(tmp_path)) is None


def test_a_link_or_a_directory_is_no_file_of_a_download(tmp_path: Path) -> None:
    assert verify._only_file(str(tmp_path / "nowhere")) is None
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert verify._only_file(str(tmp_path)) is None
    (tmp_path / "link").unlink()
    (tmp_path / "directory").mkdir()
    assert verify._only_file(str(tmp_path)) is None


def test_a_file_of_full_size_that_was_never_written_does_not_pass_for_complete(tmp_path: Path) -> None:
    file = tmp_path / "film.mkv"
    with file.open("wb") as allocated:
        os.posix_fallocate(allocated.fileno(), 0, 8_000_000)
    assert file.stat().st_size == 8_000_000
    assert verify._only_file(str(tmp_path)) is None
    file.write_bytes(b"x" * 8_000_000)
    assert verify._only_file(str(tmp_path)) == FoundFile(str(file), 8_000_000)
