"""Files are put in place in a way that can be run twice and never goes over anything."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.delivery import place
from worker.delivery.place import Piece


def piece(tmp_path: Path, content: bytes = b"abc") -> Piece:
    source = tmp_path / "work" / "file"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(content)
    return Piece(source, tmp_path / "out" / "file", len(content))


def test_a_file_is_put_in_place_without_being_copied(tmp_path: Path) -> None:
    one = piece(tmp_path)
    place.put([one])
    assert one.destination.samefile(one.source)


def test_putting_again_changes_nothing(tmp_path: Path) -> None:
    one = piece(tmp_path)
    place.put([one])
    place.put([one])
    assert one.destination.read_bytes() == b"abc"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    one = piece(tmp_path)
    one.destination.parent.mkdir()
    one.destination.write_bytes(b"mine")
    with pytest.raises(place.Taken):
        place.put([one])
    assert one.destination.read_bytes() == b"mine"
    assert one.source.exists()


def test_a_piece_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    one = piece(tmp_path)
    one.source.unlink()
    with pytest.raises(FileNotFoundError):
        place.put([one])


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another file system than `tmp_path`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


def across(tmp_path: Path, elsewhere: Path, content: bytes = b"abc") -> Piece:
    one = piece(tmp_path, content)
    if one.source.stat().st_dev == elsewhere.stat().st_dev:
        pytest.skip("/dev/shm is no file system of its own here")
    return Piece(one.source, elsewhere / ("ü" * 125 + ".mkv"), one.size)


def test_across_file_systems_it_is_copied_under_a_name_that_fits_and_can_be_put_again(tmp_path: Path, elsewhere: Path) -> None:
    one = across(tmp_path, elsewhere)
    place.put([one])
    place.put([one])
    assert one.destination.read_bytes() == b"abc"
    assert list(elsewhere.iterdir()) == [one.destination]


def test_across_file_systems_nothing_is_written_over(tmp_path: Path, elsewhere: Path) -> None:
    one = across(tmp_path, elsewhere)
    one.destination.write_bytes(b"mine")
    with pytest.raises(place.Taken):
        place.put([one])
    assert one.destination.read_bytes() == b"mine"
    assert list(elsewhere.iterdir()) == [one.destination]


def test_a_copy_that_a_crash_cut_short_is_made_anew(tmp_path: Path, elsewhere: Path) -> None:
    one = across(tmp_path, elsewhere)
    place._part(one).write_bytes(b"half of something longer")
    place.put([one])
    assert one.destination.read_bytes() == b"abc"
    assert list(elsewhere.iterdir()) == [one.destination]


def test_a_crash_between_the_two_names_of_a_copy_leaves_nothing(tmp_path: Path, elsewhere: Path) -> None:
    one = across(tmp_path, elsewhere)
    place.put([one])
    os.link(one.destination, place._part(one))
    place.put([one])
    assert list(elsewhere.iterdir()) == [one.destination]
    assert one.destination.read_bytes() == b"abc"


def test_a_file_that_another_process_copies_is_left_to_it(tmp_path: Path, elsewhere: Path) -> None:
    one = across(tmp_path, elsewhere)
    with place._part(one).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            place.put([one])
    assert not one.destination.exists()


def test_what_was_put_in_place_meanwhile_is_not_written_to(tmp_path: Path, elsewhere: Path) -> None:
    one = across(tmp_path, elsewhere, b"new")
    part = place._part(one)
    part.write_bytes(b"in place")
    os.link(part, elsewhere / "delivered")
    with pytest.raises(BlockingIOError):
        place.put([one])
    assert (elsewhere / "delivered").read_bytes() == b"in place"
    place.put([one])
    assert one.destination.read_bytes() == b"new"


def test_the_free_place_is_numbered(tmp_path: Path) -> None:
    assert place.free_place(tmp_path, "a.iso") == tmp_path / "a.iso"
    (tmp_path / "a.iso").touch()
    (tmp_path / "a (1).iso").symlink_to("nowhere")
    assert place.free_place(tmp_path, "a.iso") == tmp_path / "a (2).iso"


def test_the_checksum_is_the_files(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    assert place.sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
