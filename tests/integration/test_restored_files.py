"""Files that a restore writes are on the disk before it says so, and never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.maintenance.backup import durable, files
from worker.settings import load

SESSION = "aria2/aria2.session"
KNOWN = "qbittorrent/qBittorrent/data/BT_backup"


@pytest.fixture
def packed(tmp_path: Path) -> list[bytes]:
    """What an installation keeps beside its records."""
    data = tmp_path / "before"
    for name, size in ((SESSION, 1_000_000), (f"{KNOWN}/{'a' * 40}.fastresume", 10), (f"{KNOWN}/{'b' * 40}.torrent", 0)):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(os.urandom(size))
    return list(files.packed(load(data_dir=data), secrets=True))


def test_all_files_and_their_directories_are_flushed(packed: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: set[tuple[int, int | None]] = set()
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        found = os.fstat(descriptor)
        names = len(os.listdir(descriptor)) if os.path.isdir(f"/proc/self/fd/{descriptor}") else None
        flushed.add((found.st_ino, found.st_size if names is None else names))
        fsync(descriptor)

    monkeypatch.setattr(durable.os, "fsync", recorded)
    data = tmp_path / "new"
    written = [Path(path) for path in files.unpack(iter(packed), data / "restored", data, replace=False)]
    assert len(written) == 4
    for path in written:
        assert (path.stat().st_ino, path.stat().st_size) in flushed
        for directory in (path.parent, *path.parent.parents):
            if directory == tmp_path:
                break
            assert any(directory.stat().st_ino == ino for ino, _ in flushed), f"a name in {directory} may be lost"
        assert (path.parent.stat().st_ino, len(os.listdir(path.parent))) in flushed, "not after its last name was there"


def test_a_file_that_was_broken_off_is_not_taken_for_one_that_was_there(packed: list[bytes], tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield from packed[:6]  # into the session
        raise KeyboardInterrupt

    data = tmp_path / "new"
    with pytest.raises(KeyboardInterrupt):
        files.unpack(broken(), data / "restored", data, replace=False)
    files.unpack(iter(packed), data / "restored", data, replace=False)
    assert (data / SESSION).read_bytes() == (tmp_path / "before" / SESSION).read_bytes()
