"""Backups of which nobody can tell here whether they are good: they are neither used nor removed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.backups import Installation
from tests.machine import services_of
from worker.maintenance.backup import parts as backup_parts
from worker.maintenance.backup import run_backup, run_drill
from worker.maintenance.backup.catalogue import DAMAGED, Entry, Shelf
from worker.maintenance.backup.create import copy
from worker.maintenance.backup.faults import NotBackedUp, Unreadable
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.manifest import FILE
from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.verify import judge
from worker.ports import Services
from worker.store import open_archive, open_store

JOBS = 5


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path, jobs=JOBS)


@pytest.fixture
def nightly(here: Installation) -> Iterator[Services]:
    with closing(open_store(here.url)) as store:
        settings = {"backup_rate": 0, "backup_keep": "1 daily"}
        yield services_of(here.data, store, [], settings=settings, archive=open_archive(here.url))


def the_newest(here: Installation) -> Entry:
    return Shelf(here.backups).entries()[0]


def the_key(here: Installation) -> Key:
    return Key((here.data / "backup.key").read_bytes().strip())


def test_a_backup_of_another_version_is_not_removed_by_this_one(here: Installation, nightly: Services) -> None:
    assert run_backup(nightly).ok
    old = the_newest(here)
    body = json.loads((old.path / FILE).read_text())
    (old.path / FILE).write_text(json.dumps(body | {"schema": 2, "haul": "9.0"}))
    assert run_backup(nightly).ok
    listed = {entry.name: entry for entry in Shelf(here.backups).entries()}
    assert not listed[old.name].good
    assert "another version of Haul (9.0)" in str(listed[old.name].damaged)


def test_a_backup_that_may_not_be_read_is_not_removed(here: Installation, nightly: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_backup(nightly).ok
    old = the_newest(here).path
    opened = Path.open

    def refused(path: Path, *args: object, **options: object) -> object:
        if path == old / FILE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refused)
    assert run_backup(nightly).ok
    assert len(here.names()) == 1
    monkeypatch.undo()
    assert old.name in here.names()


def test_a_part_that_cannot_be_read_for_the_moment_condemns_no_backup(
    here: Installation, nightly: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_backup(nightly).ok
    entry = the_newest(here)

    def away(*_: object, **__: object) -> object:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(backup_parts._Source, "read", away)
    with pytest.raises(Unreadable, match=r"haul.db cannot be read: Stale file handle"):
        judge(entry, the_key(here), Pace())
    assert not run_drill(nightly).ok
    monkeypatch.undo()
    assert not (entry.path / DAMAGED).exists()
    assert run_drill(nightly).ok
    (entry.path / DAMAGED).write_bytes(b"\xff\xfe")
    assert not the_newest(here).good


def test_what_is_of_another_installation_in_the_same_directory_is_left_to_it(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    settings = {"backup_rate": 0, "backup_keep": "1 daily", "backup_dir": shared}
    made = []
    for name in ("one", "other"):
        here = Installation(tmp_path / name, jobs=JOBS)
        with closing(open_store(here.url)) as store:
            services = services_of(here.data, store, [], settings=settings, archive=open_archive(here.url))
            made += [run_backup(services), run_backup(services)]
    assert all(report.ok for report in made)
    kept = [entry.name for entry in Shelf(shared).entries() if entry.good]
    assert sorted(kept) == sorted([str(made[1].details["name"]), str(made[3].details["name"])])


def test_a_copy_is_not_taken_for_one_of_the_same_name_of_another_installation(here: Installation, nightly: Services) -> None:
    assert run_backup(nightly).ok
    mine = the_newest(here)
    copies = Shelf(here.data / "copies")
    with copies.held():
        copy(mine, copies, Pace(), nightly.failpoints)
        copy(mine, copies, Pace(), nightly.failpoints)
        (copies.directory / mine.name / FILE).write_text("{}")
        with pytest.raises(NotBackedUp, match="is another backup, of another installation"):
            copy(mine, copies, Pace(), nightly.failpoints)
