"""`haul backup` and the two works by the clock, on a store with everything in it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.contract.store_jobs import a_job
from tests.integration.backups import Ended, Installation
from tests.machine import services_of
from tests.tidy.sources import ROOT
from worker import cli
from worker.cli.lock import held
from worker.maintenance.backup import run_backup, run_drill
from worker.maintenance.backup.catalogue import Shelf
from worker.maintenance.backup.manifest import FILE, SUFFIX
from worker.maintenance.backup.standing import NAMES, show, standing, words
from worker.metrics import Metrics
from worker.ports import JobStore, Services
from worker.ports.dump import Overtaken
from worker.store import open_archive, open_store

Haul = Callable[..., Ended]
PARTS = ("records/haul.db", "files.tar")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is copied before each use."""
    return Installation(tmp_path_factory.mktemp("grown")).file


@pytest.fixture
def here(grown: Path, tmp_path: Path) -> Installation:
    made = Installation(tmp_path, jobs=0)
    shutil.copy(grown, made.file)
    return made


@pytest.fixture
def haul(here: Installation, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Haul:
    """Run `haul backup` in this process."""
    for name, value in here.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("worker.maintenance.backup.pace.NICE", 0)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["haul", "backup", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(int(ended.value.code or 0), *capfd.readouterr())

    return run


def services(here: Installation, store: JobStore, **settings: object) -> Services:
    return services_of(here.data, store, [], settings={"backup_rate": 0, **settings}, archive=open_archive(here.url))


# ---- round trip ------------------------------------------------------------------------------------------------


def test_a_backup_is_made_listed_verified_and_put_back(here: Installation, haul: Haul) -> None:
    before = here.everything()
    made = haul("create", "--json").json
    assert (made["good"], made["jobs"], made["store"], made["consistent"]) == (True, len(before[0]), "sqlite", True)
    assert made["bytes"] < made["plain_bytes"]
    assert [backup["name"] for backup in haul("list", "--json").json["backups"]] == [made["name"]]
    assert haul("verify").out == f"{made['name']:20} good\n"

    with closing(open_store(here.url)) as store:
        store.insert([a_job("later")])
    planned = haul("restore")
    assert "nothing was changed; do it with --force --yes" in planned.out
    refused = haul("restore", "--yes")
    assert (refused.code, "there are 161 jobs already" in refused.err) == (2, True)
    assert len(here.everything()[0]) == 161
    done = haul("restore", "latest", "--force", "--yes", "--json").json
    jobs, runs, torrents = here.everything()
    assert (jobs, torrents) == (before[0], before[2])
    with closing(open_store(f"sqlite:///{done['kept']}")) as store:
        assert store.counts() != {}
        assert store.get([a_job("later").id])
    assert runs == before[1]


def test_a_lost_store_comes_back_without_force(here: Installation, haul: Haul) -> None:
    before = here.everything()
    haul("create")
    here.file.unlink()
    assert haul("restore", "--yes").code == 0
    assert here.everything() == before


def test_one_collection_comes_back_alone(here: Installation, haul: Haul) -> None:
    before = here.everything()
    haul("create")
    with closing(open_store(here.url)) as store:
        store.insert([a_job("later")])
        store.claim_run("later", "1", "x")
    assert haul("restore", "--only", "nonsense").code == 2
    assert haul("restore", "--only", "jobs", "--force", "--yes").code == 0
    jobs, runs, _ = here.everything()
    assert jobs == before[0]
    assert {run.name for run in runs} == {"backup", "drill", "later", "backup-by-hand"}


def test_a_backup_can_be_restored_elsewhere_and_unpacked(here: Installation, haul: Haul, tmp_path: Path) -> None:
    before = here.everything()
    haul("create")
    other = f"sqlite:///{tmp_path / 'other' / 'haul.db'}"
    assert haul("restore", "--to", other, "--yes").code == 0
    with closing(open_store(other)) as store:
        assert sum(store.counts().values()) == len(before[0])
    assert here.everything()[0] == before[0]
    assert haul("restore", "--unpack", str(tmp_path / "plain")).code == 0
    with closing(sqlite3.connect(tmp_path / "plain" / "records" / "haul.db")) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (len(before[0]),)
    assert haul("restore", "--unpack", str(tmp_path / "plain")).code == 2


def test_a_backup_of_another_kind_of_store_is_refused_in_words(here: Installation, haul: Haul) -> None:
    haul("create")
    ended = haul("restore", "--to", "mongodb://127.0.0.1:1/haul", "--yes")
    assert (ended.code, "haul store migrate" in ended.err) == (2, True)


def test_what_the_engines_knew_comes_back_where_they_know_nothing(here: Installation, haul: Haul, monkeypatch: pytest.MonkeyPatch) -> None:
    session = here.data / "aria2" / "aria2.session"
    resume = here.data / "qbittorrent" / "qBittorrent" / "data" / "BT_backup" / f"{'a' * 40}.fastresume"
    tiers = here.data / "my-tiers.toml"
    for path, text in ((session, "http://host/a\n gid=1\n"), (resume, "d1:ai1ee"), (tiers, "[tiers.free]\nrunning = 2\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("HAUL_TIERS", str(tiers))
    haul("create")
    for path in (here.file, resume, tiers):
        path.unlink()
    session.write_text("newer")
    assert haul("restore", "--yes").code == 0
    assert session.read_text() == "newer"
    assert resume.read_text() == "d1:ai1ee"
    assert (here.data / "restored" / "my-tiers.toml").read_text() == "[tiers.free]\nrunning = 2\n"
    settings = json.loads((here.data / "restored" / "settings.json").read_text())
    assert settings["HAUL_TIERS"] == str(tiers)
    assert haul("restore", "--force", "--yes").code == 0
    assert session.read_text() == "http://host/a\n gid=1\n"
    assert session.with_name("aria2.session.before-restore").read_text() == "newer"


def test_a_stack_that_runs_here_keeps_its_records(here: Installation, haul: Haul) -> None:
    haul("create")
    with held(here.data):
        ended = haul("restore", "--force", "--yes")
    assert (ended.code, "stop it first" in ended.err) == (2, True)


def test_a_store_whose_leases_are_held_keeps_its_records(here: Installation, haul: Haul) -> None:
    haul("create")
    with closing(open_store(here.url)) as store:
        assert store.acquire_lease("engine:aria2", "a supervisor", 60)
        ended = haul("restore", "--force", "--yes")
    assert (ended.code, "somebody works on this store" in ended.err) == (2, True)


# ---- keys ------------------------------------------------------------------------------------------------------


def test_the_key_is_made_once_for_its_owner_alone_and_what_to_do_with_it_is_said(here: Installation, haul: Haul) -> None:
    first = haul("create")
    key = here.data / "backup.key"
    assert "keep a copy of that file elsewhere" in first.err
    assert (key.stat().st_mode & 0o777, len(key.read_text().strip())) == (0o600, 64)
    before = key.read_text()
    haul("create")
    assert key.read_text() == before
    listed = haul("list", "--json").json["backups"]
    assert len({backup["key"] for backup in listed} - {None}) == 1
    texts = [path.read_bytes() for path in here.backups.rglob(f"*{SUFFIX}")]
    assert texts
    assert not any(b"SQLite format" in text or b"HAUL_" in text for text in texts)


def test_a_wrong_key_is_told_before_anything_else(here: Installation, haul: Haul, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    haul("create")
    here.file.unlink()
    other = tmp_path / "other.key"
    other.write_text("x" * 40)
    monkeypatch.setenv("HAUL_BACKUP_KEY_FILE", str(other))
    for command in (["restore", "--yes"], ["verify"], ["drill"]):
        ended = haul(*command)
        assert (ended.code, "wrong key" in ended.err) == (2, True), command
    assert not here.file.exists()
    monkeypatch.setenv("HAUL_BACKUP_KEY_FILE", str(tmp_path / "none.key"))
    assert "openssl rand" in haul("verify").err
    (tmp_path / "short").write_text("short")
    monkeypatch.setenv("HAUL_BACKUP_KEY_FILE", str(tmp_path / "short"))
    assert "less than 32 bytes" in haul("create").err
    assert here.names() != [], "a list needs no key"


def test_without_a_key_nothing_secret_of_the_settings_is_written_and_it_is_said(
    here: Installation, haul: Haul, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HAUL_WEBHOOK_SECRET", "very-secret")
    monkeypatch.setenv("HAUL_BACKUP_KEY_FILE", "none")
    made = haul("create")
    assert "not encrypted" in made.out
    assert made.err.count("not encrypted") == 1
    haul("restore", "--unpack", str(tmp_path / "plain"))
    assert "very-secret" not in (tmp_path / "plain" / "files" / "settings.json").read_text()
    monkeypatch.delenv("HAUL_BACKUP_KEY_FILE")
    haul("create")
    haul("restore", "--unpack", str(tmp_path / "kept"))
    assert "very-secret" in (tmp_path / "kept" / "files" / "settings.json").read_text()


def test_a_manifest_that_was_changed_is_refused_though_its_checksum_was_changed_with_it(here: Installation, haul: Haul) -> None:
    from worker.maintenance.backup.manifest import read_manifest

    name = haul("create", "--json").json["name"]
    path = here.backups / name / FILE
    text = path.read_text()
    path.write_text(text.replace('"jobs"', '"jobz"'))
    assert haul("verify", name).out == f"{name:20} DAMAGED: the part manifest.json is not the one that was written\n"
    path.write_text(text)
    manifest = read_manifest(path.parent)
    path.write_text(manifest.text(None))
    (path.parent / "damaged").unlink()
    assert "changed by somebody who does not have the key" in haul("verify", name).out


# ---- damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [*PARTS, "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "cut off", "missing"])
def test_a_damaged_part_is_refused_by_its_name_and_nothing_is_restored(here: Installation, haul: Haul, part: str, how: str) -> None:
    haul("create")
    with closing(open_store(here.url)) as store:
        store.insert([a_job("later")])
    before = here.everything()[0]
    [directory] = [entry.path for entry in Shelf(here.backups).entries()]
    path = directory / (part if part == FILE else part + SUFFIX)
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    verified = haul("verify", directory.name)
    assert (verified.code, part in verified.out) == (1, True), verified
    if part == "records/haul.db":
        restored = haul("restore", directory.name, "--force", "--yes")
        assert (restored.code, part in restored.err) == (1, True), restored
        assert here.everything()[0] == before
    assert here.names() == []
    assert haul("restore").code == 2, "there is no good backup"


def test_a_part_in_the_place_of_another_is_refused(here: Installation, haul: Haul) -> None:
    haul("create")
    haul("create")
    one, other = (entry.path for entry in Shelf(here.backups).entries())
    shutil.copy(one / f"{PARTS[0]}{SUFFIX}", other / f"{PARTS[0]}{SUFFIX}")
    assert PARTS[0] in haul("verify", other.name).out
    assert haul("verify", "--all").code == 1


# ---- the works by the clock ------------------------------------------------------------------------------------


def test_each_night_makes_copies_and_removes_and_says_so(here: Installation, tmp_path: Path) -> None:
    with closing(open_store(here.url)) as store:
        nightly = services(here, store, backup_copy_dir=tmp_path / "copy", backup_keep="1 daily")
        first, second = run_backup(nightly), run_backup(nightly)
    assert first.ok, first
    assert second.ok, second
    assert second.figures["removed"] == 1
    for directory in (here.backups, tmp_path / "copy"):
        assert [entry.name for entry in Shelf(directory).entries()] == [second.details["name"]]
        assert here.hidden(directory) == []
    json.dumps(second.document())


def test_a_night_that_fails_removes_nothing_and_neither_does_a_person_then(
    here: Installation, haul: Haul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAUL_BACKUP_KEEP", "1 daily")
    with closing(open_store(here.url)) as store:
        nightly = services(here, store, backup_keep="3 daily")
        assert run_backup(nightly).ok
        broken = services(here, store, backup_copy_dir=Path("/proc/nowhere"), backup_keep="1 daily")
        report = run_backup(broken)
    assert not report.ok
    assert "/proc/nowhere" in report.summary
    before = here.names()
    assert len(before) == 2, "it was made, and is good; its copy is missing"
    pruned = haul("prune", "--yes")
    assert (pruned.code, "the last backup failed" in pruned.err) == (1, True)
    assert here.names() == before


def test_copies_are_not_removed_either_while_the_last_backup_failed(
    here: Installation, haul: Haul, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HAUL_BACKUP_COPY_DIR", str(tmp_path / "copies"))
    haul("create")
    haul("create")
    shutil.rmtree(Shelf(here.backups).entries()[1].path)  # there is nothing to remove but among the copies
    Shelf(here.backups).note("last", {"ok": False, "error": "no room"})
    monkeypatch.setenv("HAUL_BACKUP_KEEP", "1 daily")
    assert haul("prune", "--yes").code == 1
    assert len(here.names(tmp_path / "copies")) == 2


def test_nothing_is_removed_when_the_newest_turns_out_to_be_damaged(
    here: Installation, haul: Haul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAUL_BACKUP_KEEP", "1 daily")
    haul("create")
    haul("create")
    newest, older = Shelf(here.backups).entries()
    with (newest.path / f"{PARTS[0]}{SUFFIX}").open("r+b") as file:
        file.truncate(5000)
    ended = haul("prune", "--yes")
    assert (ended.code, "is no good" in ended.err) == (1, True)
    haul("verify", newest.name)
    assert haul("prune", "--yes").code == 0
    assert [entry.name for entry in Shelf(here.backups).entries()] == [newest.name, older.name], "the last good one stays"


def test_a_drill_restores_compares_reads_and_leaves_nothing(here: Installation, haul: Haul) -> None:
    with closing(open_store(here.url)) as store:
        nightly = services(here, store)
        assert not run_drill(nightly).ok, "there is none yet"
        run_backup(nightly)
        report = run_drill(nightly)
    assert report.ok, report
    assert report.figures["jobs"] == 160
    assert report.figures["seconds"] > 0
    assert here.hidden() == []
    assert haul("drill").code == 0


def test_a_drill_finds_what_was_not_put_back_as_it_was(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.store.sqlite.load import SqliteLoad

    real = SqliteLoad.take

    def take(load: SqliteLoad, part: str, chunks: object) -> None:
        real(load, part, chunks)  # type: ignore[arg-type]
        with closing(sqlite3.connect(load._staged)) as database:
            database.execute("DROP INDEX jobs_unsent")
            database.commit()

    monkeypatch.setattr(SqliteLoad, "take", take)
    with closing(open_store(here.url)) as store:
        nightly = services(here, store)
        run_backup(nightly)
        report = run_drill(nightly)
    assert not report.ok
    assert "jobs has other indexes" in report.summary


def test_the_ledger_says_how_backups_stand(here: Installation, haul: Haul, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_store(here.url)) as store:
        settings = services(here, store).settings
        begun = time.time()
        haul("create")
        haul("drill")
        found = standing(store.latest_runs(NAMES, 9), "backup")
        assert (found.ok, bool(found.bytes)) == (True, True)
        assert found.at is not None
        assert found.at >= begun - 1
        assert standing(store.latest_runs(NAMES, 9), "drill").seconds
        metrics = Metrics()
        show(store.latest_runs(NAMES, 9), metrics)
        assert metrics.registry.get_sample_value("haul_backup_last_success_timestamp_seconds", {"kind": "backup"}) == found.at
        assert metrics.registry.get_sample_value("haul_backup_ok", {"kind": "drill"}) == 1
        assert metrics.registry.get_sample_value("haul_restore_drill_last_success_timestamp_seconds", {"kind": "drill"})
        monkeypatch.setenv("HAUL_BACKUP_COPY_DIR", "/proc/nowhere")
        assert haul("create").code == 1
        assert (standing(store.latest_runs(NAMES, 9), "backup").ok, standing(store.latest_runs(NAMES, 9), "backup").at) == (False, found.at)
        assert "the last try FAILED" in words(store, settings, time.time())


def test_two_at_once_are_not_made(here: Installation, haul: Haul) -> None:
    with Shelf(here.backups).held():
        ended = haul("create")
    assert (ended.code, "another process works in" in ended.err) == (3, True)


def test_the_files_are_an_ordinary_tar(here: Installation, haul: Haul, tmp_path: Path) -> None:
    from worker.maintenance.backup import files
    from worker.settings import load

    path = tmp_path / "f.tar"
    path.write_bytes(b"".join(files.packed(load(data_dir=here.data), secrets=False)))
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["settings.json"]


def test_the_alerts_are_about_metrics_that_exist_and_have_a_text() -> None:
    rules = yaml.safe_load((ROOT / "monitoring" / "backup.rules.yml").read_text())["groups"][0]["rules"]
    shown = {metric._name for metric in vars(Metrics()).values() if hasattr(metric, "_name")}
    named = {name for rule in rules for name in re.findall(r"haul_\w+", rule["expr"])}
    assert len(rules) == 5
    assert named <= shown
    assert {"haul_backup_ok", "haul_backup_last_success_timestamp_seconds", "haul_restore_drill_last_success_timestamp_seconds"} == named
    assert all(rule["annotations"]["summary"] and rule["annotations"]["description"] for rule in rules)


def test_a_store_that_could_not_keep_the_moment_is_read_once_more(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.store.sqlite.archive import SqliteArchive

    real, overtaken = SqliteArchive.dump, [Overtaken("store", "too late")]

    def dump(archive: SqliteArchive, scratch: Path, spend: Callable[[int], None], wait: Callable[[str], None]) -> object:
        if overtaken:
            raise overtaken.pop()
        return real(archive, scratch, spend, wait)

    monkeypatch.setattr(SqliteArchive, "dump", dump)
    with closing(open_store(here.url)) as store:
        assert run_backup(services(here, store)).ok
    assert (len(here.names()), here.hidden()) == (1, [])
