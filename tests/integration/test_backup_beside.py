"""What keeps a backup from being in the way of others: everything it reads is counted, and what it writes is flushed little by little."""

from __future__ import annotations

import itertools
import os
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.contract.store_jobs import a_job
from worker.maintenance.backup import pace, parts, work
from worker.maintenance.backup.catalogue import Shelf
from worker.maintenance.backup.parts import CHUNK_BYTES, FLUSH_BYTES, write_part
from worker.maintenance.backup.place import Place
from worker.notation.keep import Keep
from worker.store import open_archive, open_store
from worker.store.sqlite.copies import ROWS

JOBS = 400


def test_hashing_the_rows_of_a_store_is_counted_as_reading_them_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/haul.db"
    with closing(open_store(url)) as store:
        store.insert([a_job(f"k{number}") for number in range(JOBS)])
    spent: list[int] = []
    with closing(open_archive(url).dump(tmp_path, spent.append)) as dump:
        copied = dump.size
    counted = [count for count in spent if count]
    assert len(counted) >= JOBS // ROWS  # each time others may run
    assert sum(counted) >= copied + JOBS * 100


def test_what_is_written_is_flushed_little_by_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = [0]
    monkeypatch.setattr(parts.os, "fdatasync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    part = write_part(tmp_path / "p", "p", (os.urandom(CHUNK_BYTES) for _ in range(3 * FLUSH_BYTES // CHUNK_BYTES)), None, lambda _: None)
    waiting = [later - earlier for earlier, later in zip(flushed, [*flushed[1:], part.stored_size], strict=True)]
    assert max(waiting) <= FLUSH_BYTES + 2 * CHUNK_BYTES


@pytest.mark.parametrize(("rate", "rests"), [(2**40, True), (0, False)])
def test_the_work_by_the_clock_leaves_the_processor_to_others_unless_nothing_bounds_it(
    rate: int, rests: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    used, ticks = itertools.count(), itertools.count()
    clocks = {"thread_time": lambda: next(used) / 100, "monotonic": lambda: next(ticks) / 1000, "sleep": slept.append}
    monkeypatch.setattr(pace, "time", SimpleNamespace(**clocks))
    work._pace(Place(Shelf(tmp_path), None, None, Keep(), "UTC", rate)).spend(1)
    assert bool(slept) == rests
