"""Work directories that nobody can delete, and those that are too deep to be deleted as others are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_standstill_admitted import PATIENCE_S, SIZE, Disk
from worker.admission.idle import DELETED_S
from worker.jobs.directories import delete_work_directory
from worker.supervision import remains
from worker.supervision.corrections import Action
from worker.supervision.settle import SPACE_RETRY_S

DEEP = 1_200


@contextlib.contextmanager
def a_chain(where: Path, depth: int = DEEP) -> Iterator[None]:
    """Directories in each other, with a file in the last one; made from inside, for the path to it may be too long for a call.

    It does not outlive a test that fails, for pytest could not remove it either.
    """
    where.mkdir(parents=True)
    inside = os.open(where, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=inside)
        deeper = os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = deeper
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=inside))
    os.close(inside)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", str(where)], timeout=60, check=False)


def test_a_directory_that_is_deeper_than_python_can_follow_is_deleted(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    work = tmp_path / ".haul" / "t" / "aria2"
    with a_chain(work):
        (work / "d" / "link").symlink_to(kept)
        delete_work_directory(str(work))
        assert not (tmp_path / ".haul" / "t").exists()
    assert (kept / "file").exists()


def test_what_nobody_can_delete_does_not_keep_a_standstill_from_being_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later_s = 0.0
    disk = Disk(tmp_path, monkeypatch)
    monkeypatch.setattr(type(disk.services.clock), "time", lambda _: time.time() + later_s)
    monkeypatch.setattr(remains, "delete_work_directory", lambda _: None)
    ids = [disk.wants() for _ in range(3)]
    disk.admit()
    for id in ids:
        disk.fills(id, SIZE // 3 + 1)
    disk.admit(SPACE_RETRY_S + 1)
    disk.admit(PATIENCE_S + 1)
    for _ in range(3):
        disk.seen_anew()
        disk.admit(PATIENCE_S + 1)
    assert [disk.holds(id) for id in ids] == [True, True, False], "it may be deleted yet"
    later_s = DELETED_S
    disk.admit(1)
    assert [disk.holds(id) for id in ids] == [True, False, False]
    counted = disk.services.metrics.reconciled.labels(disk.engine.name, str(Action.DELETE))._value.get()
    assert counted == 0, "nothing was deleted"
