"""Parts of a backup: what was changed on the disk is refused with the part's name, and what was not comes back as it was."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.maintenance.backup.faults import Damaged
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.parts import CHUNK_BYTES, Part, check_stored, read_part, write_part

KEY = Key(b"k" * 32)
SALT = b"s" * 16
NAME = "records/haul/jobs.bson"


def nothing(count: int) -> None:
    """Nobody counts."""


def noise(count: int, seed: int = 1) -> Iterator[bytes]:
    """Bytes that cannot be compressed."""
    source = random.Random(seed)
    for start in range(0, count, 100_000):
        yield source.randbytes(min(100_000, count - start))


def written(path: Path, size: int = 2 * CHUNK_BYTES + 5, *, key: Key | None = KEY, name: str = NAME) -> Part:
    return write_part(path, name, noise(size), key.cipher(SALT, name) if key else None, nothing)


def read(path: Path, part: Part, key: Key | None = KEY) -> bytes:
    return b"".join(read_part(path, part, key.cipher(SALT, part.name) if key else None, nothing))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_a_part_comes_back_as_it_was(tmp_path: Path, size: int, key: Key | None) -> None:
    part = written(tmp_path / "p", size, key=key)
    assert read(tmp_path / "p", part, key) == b"".join(noise(size))
    assert (part.size, part.stored_size) == (size, (tmp_path / "p").stat().st_size)
    check_stored(tmp_path / "p", part, nothing)


def test_nothing_of_the_content_is_on_the_disk_when_it_is_encrypted(tmp_path: Path) -> None:
    secret = b"https://host/?token=secret" * 9
    for name, key in (("plain", None), ("encrypted", KEY)):
        write_part(tmp_path / name, NAME, [secret], key.cipher(SALT, NAME) if key else None, nothing)
    assert b"token=secret" in (tmp_path / "plain").read_bytes()
    assert b"token" not in (tmp_path / "encrypted").read_bytes()
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_a_flipped_bit_anywhere_is_refused_with_the_parts_name(tmp_path: Path, key: Key | None) -> None:
    path = tmp_path / "p"
    part = written(path, CHUNK_BYTES + 50_000, key=key)
    whole = path.read_bytes()
    places = [*range(40), *random.Random(2).sample(range(len(whole)), 60), *range(len(whole) - 30, len(whole))]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        for look in (lambda: read(path, part, key), lambda: check_stored(path, part, nothing)):
            with pytest.raises(Damaged, match=NAME) as caught:
                look()
            assert caught.value.part == NAME


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_a_part_that_was_cut_off_or_goes_on_is_refused(tmp_path: Path, key: Key | None) -> None:
    path = tmp_path / "p"
    part = written(path, CHUNK_BYTES + 5000, key=key)
    whole = path.read_bytes()
    boundary = len(whole) - 5000
    for size in (0, 3, 11, boundary, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(Damaged, match=NAME):
            read(path, part, key)
        with pytest.raises(Damaged, match="is cut off"):
            check_stored(path, part, nothing)
    path.write_bytes(whole + b"x")
    with pytest.raises(Damaged, match="behind its end"):
        read(path, part, key)
    path.unlink()
    with pytest.raises(Damaged, match=f"{NAME} is missing"):
        read(path, part, key)


def chunks_of(path: Path) -> tuple[bytes, list[bytes]]:
    data, found, at = path.read_bytes(), [], 10
    while at < len(data):
        end = at + 5 + int.from_bytes(data[at : at + 4], "big")
        found.append(data[at:end])
        at = end
    return data[:10], found


def test_chunks_in_another_order_or_of_another_part_do_not_decrypt_though_every_hash_was_changed_with_them(tmp_path: Path) -> None:
    part = written(tmp_path / "p")
    other = written(tmp_path / "q", name="records/haul/runs.bson")
    head, chunks = chunks_of(tmp_path / "p")
    foreign = chunks_of(tmp_path / "q")[1]
    assert len(chunks) == len(foreign) == 3
    whole = bytes([*chunks[0][:4], 1, *chunks[0][5:]])  # says of itself that it is the last
    for wrong in (
        [chunks[1], chunks[0], chunks[2]],
        [chunks[0], chunks[0], chunks[2]],
        [chunks[0], chunks[2]],
        [foreign[0], *chunks[1:]],
        [whole],
    ):
        (tmp_path / "w").write_bytes(head + b"".join(wrong))
        with pytest.raises(Damaged, match="damaged at chunk"):
            read(tmp_path / "w", part)
    with pytest.raises(Damaged, match="damaged at chunk 0"):
        read(tmp_path / "q", replace(other, name=NAME))


def test_memory_is_bounded_for_what_is_compressed_a_thousandfold(tmp_path: Path) -> None:
    part = write_part(tmp_path / "p", NAME, (bytes(1_000_000) for _ in range(64)), None, nothing)
    assert part.stored_size < 64_000
    sizes = [len(chunk) for chunk in read_part(tmp_path / "p", part, None, nothing)]
    assert sum(sizes) == 64_000_000
    assert max(sizes) <= CHUNK_BYTES


@given(st.lists(st.binary(max_size=2000), max_size=20))
def test_however_the_bytes_come_the_same_come_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("p") / "p"
    part = write_part(path, NAME, chunks, KEY.cipher(SALT, NAME), nothing)
    assert read(path, part) == b"".join(chunks)
    os.unlink(path)
