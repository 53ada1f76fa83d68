"""Work directories: each transfer has one on each engine that it was tried on."""

from __future__ import annotations

from pathlib import Path

from worker.jobs.directories import delete_work, work_directory
from worker.jobs.model import Transfer


def test_what_is_deleted_of_a_transfer_lies_at_every_engine_it_was_tried_on_and_where_it_was_before_a_volume_moved(tmp_path: Path) -> None:
    volumes = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    before = work_directory(str(tmp_path / "before"), "t1", "a")
    ours = [before, *(work_directory(volume, "t1", engine) for engine, volume in volumes.items())]
    other = work_directory(volumes["a"], "t2", "a")
    for directory in (*ours, other):
        Path(directory).mkdir(parents=True)
        Path(directory, "part").write_bytes(b"x")
    for _ in range(2):
        delete_work(Transfer("t1", "a", 2, before, 0.0), volumes)
        assert not list(tmp_path.rglob("t1"))
        assert Path(other, "part").exists()
