"""A grown installation, and what it is copied to."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.ended import Ended
from tests.integration.grown import grow
from tests.integration.migrate.copying import LARGE, SMALL, Haul
from worker import cli
from worker.store import open_store


def grown(directory: Path, size: int) -> Path:
    path = directory / "haul.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        grow(store, size)
    return path


@pytest.fixture(scope="package")
def grown_large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is copied before each use."""
    return grown(tmp_path_factory.mktemp("large"), LARGE)


@pytest.fixture(scope="package")
def grown_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `grown_large`."""
    return grown(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture
def large(grown_large: Path, tmp_path: Path) -> str:
    """A grown installation in its data directory."""
    return placed(grown_large, tmp_path)


@pytest.fixture
def source(grown_small: Path, tmp_path: Path) -> str:
    """As `large`, and smaller."""
    return placed(grown_small, tmp_path)


def placed(file: Path, directory: Path) -> str:
    (directory / "data").mkdir()
    shutil.copy(file, directory / "data")
    return f"sqlite:///{directory / 'data' / 'haul.db'}"


@pytest.fixture
def target(tmp_path: Path) -> str:
    """A store that is not there yet."""
    return f"sqlite:///{tmp_path / 'other' / 'haul.db'}"


@pytest.fixture(params=["sqlite", "mongodb"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store is copied to."""
    return str(request.param)


@pytest.fixture
def any_target(kind: str, request: pytest.FixtureRequest, target: str) -> str:
    """As `target`, of each kind."""
    return target if kind == "sqlite" else str(request.getfixturevalue("mongo_url"))


@pytest.fixture
def haul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Haul]:
    """Run `haul store migrate` in this process."""
    monkeypatch.setenv("HAUL_DATA_DIR", str(tmp_path / "data"))
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["haul", "store", "migrate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    yield run
    signal.signal(signal.SIGTERM, before)
