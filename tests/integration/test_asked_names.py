"""What is asked for by a name that nothing has is refused with the names there are."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.jobs.errors import NotFound
from worker.store import open_store


def test_the_history_of_a_work_that_is_none_names_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"sqlite:///{tmp_path / 'haul.db'}"
    open_store(address).close()
    for name, value in {"DATA_DIR": str(tmp_path), "STORE_URL": address, "REDIS_URL": "redis://127.0.0.1:1/0", "ENGINES": ""}.items():
        monkeypatch.setenv(f"HAUL_{name}", value)
    refused = CliRunner().invoke(app, ["schedule", "history", "bakup"]).exception
    assert isinstance(refused, NotFound)
    assert "backup" in refused.fix
    assert CliRunner().invoke(app, ["schedule", "history", "backup"]).exit_code == 0


def test_the_version_is_told() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"haul {version('haul')}\n")
