"""Backups: processes that die at any point of them, and disks that are full"""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest
from pymongo import MongoClient

from tests.contract.store_jobs import a_job
from tests.e2e.haul import Haul
from tests.e2e.test_restore import brought_back
from tests.faults.catalogue import fault
from tests.faults.test_disk import fill, small_volume
from tests.integration.backups import Installation
from worker.store import open_store

KILLED = -signal.SIGKILL
STORES = ("sqlite", "mongodb")


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    """An installation on each kind of store."""
    url = request.getfixturevalue("mongo_url") if request.param == "mongodb" else ""
    return Installation(tmp_path, url)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "copies"


def good(here: Installation, directory: Path | None = None) -> list[str]:
    """The backups that are listed as good; each of them is, however closely one looks."""
    names = here.names(directory)
    for name in names:
        ended = here.haul("verify", name, *(["--from", str(directory)] if directory else []))
        assert ended.code == 0, ended
    return names


def databases(here: Installation) -> list[str]:
    """What a trial or a restore may leave in a MongoDB."""
    if here.url.startswith("sqlite"):
        return [path.name for path in here.data.glob("haul.db.restoring*")]
    with MongoClient[dict[str, object]](here.url) as client:
        database = client.get_default_database()
        scratch = client[f"{database.name}_haul_drill"].list_collection_names()
        return [*scratch, *(name for name in database.list_collection_names() if name.startswith("haul_restoring."))]


@fault(
    "A backup is killed: while it reads, writes, is read back, gets its name, or is copied",
    provoked="`kill -9` at each point between two effects, on each kind of store, with one good backup before it",
    holds="what is listed is good, here and in the copies; the one before is there; the next run removes what was left and ends well",
)
@pytest.mark.parametrize("here", STORES, indirect=True)
@pytest.mark.parametrize(
    "point",
    [
        "backup.part:kill:1",
        "backup.written:kill:1",
        "backup.verified:kill:1",
        "backup.named:kill:1",
        "backup.copying:kill:1",
        "backup.copied:kill:1",
    ],
)
def test_a_backup_that_was_killed_is_in_no_list_and_the_next_one_tidies_up(here: Installation, copies: Path, point: str) -> None:
    here.environment["HAUL_BACKUP_COPY_DIR"] = str(copies)
    [first] = [here.haul("create", "--json").json["name"]]
    assert here.haul("create", HAUL_FAILPOINT=point).code == KILLED
    after = point.startswith(("backup.named", "backup.copy", "backup.copied"))
    assert len(good(here)) == (2 if after else 1)
    assert good(here, copies) == [first]
    assert bool(here.hidden()) == (not after)
    last = here.haul("create", "--json").json["name"]
    assert {first, last} <= set(good(here))
    assert {first, last} <= set(good(here, copies))
    assert here.hidden() == here.hidden(copies) == []


@fault(
    "A restore is killed: after all was loaded, and after it took the place of the records",
    provoked="`kill -9` before and after, on each kind of store, over records that have changed since the backup",
    holds="before: the records are as they were; after: they are those of the backup; made again it ends well, and leaves nothing beside",
)
@pytest.mark.parametrize("here", STORES, indirect=True)
@pytest.mark.parametrize("point", ["restore.loaded:kill:1", "restore.committed:kill:1"])
def test_a_restore_that_was_killed_has_changed_all_or_nothing_and_can_be_made_again(here: Installation, point: str) -> None:
    then = here.everything()[0]
    name = here.haul("create", "--json").json["name"]
    with closing(open_store(here.url)) as store:
        store.insert([a_job("later")])
    now = here.everything()[0]
    assert here.haul("restore", name, "--force", "--yes", HAUL_FAILPOINT=point).code == KILLED
    assert here.everything()[0] == (now if point.startswith("restore.loaded") else then)
    assert name in good(here)
    ended = here.haul("restore", name, "--force", "--yes")
    assert ended.code == 0, ended
    assert here.everything()[0] == then
    assert databases(here) == []


@fault(
    "A drill is killed: with its scratch database full, and after it was read",
    provoked="`kill -9`, on each kind of store",
    holds="records and backups are as they were; the next drill removes the scratch of the dead one, ends well, and leaves nothing",
)
@pytest.mark.parametrize("here", STORES, indirect=True)
@pytest.mark.parametrize("point", ["drill.loaded:kill:1", "drill.read:kill:1"])
def test_a_drill_that_was_killed_leaves_what_the_next_one_removes(here: Installation, point: str) -> None:
    name = here.haul("create", "--json").json["name"]
    before = here.everything()[0]
    assert here.haul("drill", HAUL_FAILPOINT=point).code == KILLED
    assert here.hidden() != [] or databases(here) != []
    assert good(here) == [name]
    assert here.everything()[0] == before
    ended = here.haul("drill")
    assert ended.code == 0, ended
    assert here.hidden() == databases(here) == []


@fault(
    "The removal of old backups is killed",
    provoked="`kill -9` between taking a backup out of the list and removing its files, and between two backups",
    holds="no half backup is listed, the newest good one is there, and the next run goes on",
)
@pytest.mark.parametrize("point", ["prune.hidden:kill:1", "prune.removed:kill:1"])
def test_a_removal_that_was_killed_leaves_whole_backups_only(tmp_path: Path, point: str) -> None:
    here = Installation(tmp_path)
    for _ in range(3):
        newest = here.haul("create", "--json").json["name"]
    here.environment["HAUL_BACKUP_KEEP"] = "1 daily"
    assert here.haul("prune", "--yes", HAUL_FAILPOINT=point).code == KILLED
    assert len(good(here)) == 2
    assert here.haul("prune", "--yes").code == 0
    assert good(here) == [newest]
    assert here.hidden() == []


@fault(
    "A disk is full that a backup is written, or copied, to",
    provoked="a tmpfs of 3 MB under the backups, then under the copies, for a backup that takes more",
    holds="it fails in words, nothing of it is left, the good ones stay, nothing is removed, and with room it ends well",
)
@pytest.mark.parametrize("which", ["HAUL_BACKUP_DIR", "HAUL_BACKUP_COPY_DIR"])
def test_a_full_disk_leaves_no_part_of_a_backup(tmp_path: Path, which: str) -> None:
    here = Installation(tmp_path)
    with small_volume(tmp_path / "small", 24) as volume:
        here.environment[which] = str(volume)
        backups = volume if which == "HAUL_BACKUP_DIR" else here.backups
        first = here.haul("create", "--json").json["name"]
        filler = fill(volume, 1_000_000)
        ended = here.haul("create")
        assert ended.code in (1, 3), ended
        assert "the disk is full" in ended.err
        assert good(here, volume) == [first]
        assert here.hidden(volume) == here.hidden(backups) == []
        assert "the last backup failed" in here.haul("prune", "--yes", HAUL_BACKUP_KEEP="1 daily").err or backups == volume
        assert good(here, volume) == [first]
        filler.unlink()
        second = here.haul("create", "--json").json["name"]
        assert set(good(here, volume)) >= {first, second}


@fault(
    "A disk is full that a backup is restored to",
    provoked="a tmpfs under the data directory with less room than the records take",
    holds="it fails in words, the records that are there stay as they are, and nothing of the restore is left",
)
def test_a_full_disk_leaves_no_part_of_a_restore(tmp_path: Path) -> None:
    here = Installation(tmp_path)
    name = here.haul("create", "--json").json["name"]
    with small_volume(tmp_path / "small", 8) as volume:
        with closing(open_store(f"sqlite:///{volume / 'haul.db'}")) as store:
            store.insert([a_job("there")])
        fill(volume, 1_000_000)
        ended = here.haul("restore", name, "--to", f"sqlite:///{volume / 'haul.db'}", "--force", "--yes")
        assert (ended.code, "the disk is full" in ended.err) == (1, True), ended
        assert sorted(path.name for path in volume.iterdir() if "lock" not in path.name) == ["filler", "haul.db"]
        with closing(open_store(f"sqlite:///{volume / 'haul.db'}")) as store:
            assert sum(store.counts().values()) == 1


@pytest.fixture
def haul(tmp_path: Path) -> Haul:
    """A machine on which nothing ever ran."""
    return Haul(tmp_path)


@fault(
    "The database of a machine is deleted while downloads run, and the stack is killed",
    provoked="a backup amid three downloads, `kill -9` of `haul up`, rm of haul.db; then the three commands of README.md",
    holds="every job of the backup ends, with the right bytes; what it did not know of is gone",
)
def test_a_deleted_database_comes_back_by_the_three_commands_of_the_readme(haul: Haul, tmp_path: Path) -> None:
    brought_back(haul, tmp_path, machine_lost=False)
