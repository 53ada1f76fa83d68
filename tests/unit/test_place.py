"""Moves that can be run twice and never go over anything."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from worker.delivery import place
from worker.delivery.place import Piece


def piece(tmp_path: Path, content: bytes = b"abc") -> Piece:
    source = tmp_path / "work" / "file"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(content)
    return Piece(source, tmp_path / "out" / "file", len(content))


def test_a_file_is_moved_and_the_source_is_gone(tmp_path: Path) -> None:
    one = piece(tmp_path)
    place.move([one])
    assert one.destination.read_bytes() == b"abc"
    assert not one.source.exists()


def test_a_move_that_is_run_again_changes_nothing(tmp_path: Path) -> None:
    one = piece(tmp_path)
    place.move([one])
    place.move([one])
    assert one.destination.read_bytes() == b"abc"


def test_a_move_goes_on_after_a_crash_between_link_and_unlink(tmp_path: Path) -> None:
    one = piece(tmp_path)
    one.destination.parent.mkdir()
    os.link(one.source, one.destination)
    place.move([one])
    assert not one.source.exists()
    assert one.destination.stat().st_nlink == 1


def test_nothing_is_written_over(tmp_path: Path) -> None:
    one = piece(tmp_path)
    one.destination.parent.mkdir()
    one.destination.write_bytes(b"mine")
    with pytest.raises(place.Taken):
        place.move([one])
    assert one.destination.read_bytes() == b"mine"
    assert one.source.exists()


def test_a_piece_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    one = piece(tmp_path)
    one.source.unlink()
    with pytest.raises(FileNotFoundError):
        place.move([one])


def test_across_file_systems_it_is_copied_and_still_nothing_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Path, destination: Path, **options: bool) -> None:
        if "work" in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, destination, **options)

    monkeypatch.setattr(os, "link", link)
    one = piece(tmp_path)
    place.move([one])
    assert one.destination.read_bytes() == b"abc"
    assert list(one.destination.parent.iterdir()) == [one.destination]
    two = piece(tmp_path, b"other")
    with pytest.raises(place.Taken):
        place.move([two])
    assert one.destination.read_bytes() == b"abc"


def test_the_free_place_is_numbered(tmp_path: Path) -> None:
    assert place.free_place(tmp_path, "a.iso") == tmp_path / "a.iso"
    (tmp_path / "a.iso").touch()
    (tmp_path / "a (1).iso").symlink_to("nowhere")
    assert place.free_place(tmp_path, "a.iso") == tmp_path / "a (2).iso"


def test_the_checksum_is_the_files(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    assert place.sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
