"""The address of a database, and what may lie there."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from tests.contract.store_jobs import a_job
from tests.contract.store_suite import Opener
from worker.settings import SettingsError
from worker.store import open_store
from worker.store.sqlite.schema import SCHEMA_VERSION


@pytest.mark.parametrize("url", ["sqlite://{}", "sqlite:///{}"])
def test_a_path_is_taken_as_it_is_written(tmp_path: Path, url: str) -> None:
    path = tmp_path / "a b%20c#d?e" / "haul.db"
    open_store(url.format(path)).close()
    assert path.is_file()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://user:hunter2@host/haul", "postgresql: is not the address"),
        ("sqlite://relative/path", "sqlite: is not the address"),
        ("sqlite:///", "sqlite: is not the address"),
        ("/just/a/path", "the value is not the address"),
        ("", "the value is not the address"),
    ],
)
def test_an_address_that_cannot_be_is_refused_by_the_name_of_its_setting(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match="HAUL_STORE_URL") as caught:
        open_store(url)
    assert words in str(caught.value)
    assert "sqlite:///absolute/path" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_file_is_the_owners_alone(path: Path, opener: Opener) -> None:
    store = opener()
    store.insert([a_job("k")])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"haul.db": 0o600, "haul.db-wal": 0o600, "haul.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_a_file_of_something_else_is_refused_and_left_alone(path: Path, opener: Opener) -> None:
    path.parent.mkdir()
    path.write_text("my diary, and nothing but my diary")
    with pytest.raises(SettingsError, match=r"HAUL_STORE_URL: .*haul\.db is not an SQLite database"):
        opener()
    assert path.read_text() == "my diary, and nothing but my diary"


def test_a_directory_in_its_place_is_refused(path: Path, opener: Opener) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"HAUL_STORE_URL: .*cannot be opened: Is a directory"):
        opener()


def test_a_schema_of_a_newer_version_is_refused_and_left_alone(path: Path, opener: Opener) -> None:
    opener().close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(
        SettingsError, match=rf"newer version of Haul \(schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\); upgrade"
    ):
        opener()
