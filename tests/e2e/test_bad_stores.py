"""A store that cannot be used is told before anything is started: which setting is wrong, what to do; and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.e2e.stack import SERVICES
from tests.mongodb import MongoServer, mongo_server
from worker.cli.servers import free_port

pytestmark = pytest.mark.skipif(SERVICES, reason="it is about the stack's own start")
WAIT_S = 60.0


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MongoDB where we may only read."""
    with mongo_server(tmp_path_factory.mktemp("guarded")) as server:
        with MongoClient[Any](f"mongodb://{server.address}") as client:
            client.admin.command("createUser", "reader", pwd="hunter2", roles=[{"role": "read", "db": "haul"}])
        _restart(server)
        yield f"mongodb://reader:hunter2@{server.address}/haul?authSource=admin"


def _restart(server: MongoServer) -> None:
    server.kill()
    server.start("--auth")


def run(directory: Path, command: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and what was said of a command that is to fail at once; nothing may be left in the data directory, nor any process."""
    data = directory / "data"
    rest = {name: value for name, value in os.environ.items() if not name.startswith("HAUL_")}
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", *command.split()],
        env={**rest, "HAUL_DATA_DIR": str(data), "HAUL_API_PORT": "0", **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert not [path for path in data.rglob("*") if path.name not in ("logs", "haul.log", "stack.lock")]
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "variable", "value", "words"),
    [
        ("up", "HAUL_STORE_URL", "mongodb://127.0.0.1:1/a.b", "'a.b' cannot be the name of a database; use letters, digits and -_"),
        ("get http://127.0.0.1:9/x", "HAUL_STORE_URL", "mongodb://127.0.0.1:1/admin", "'admin' is the server's own database; name another"),
        ("up", "HAUL_STORE_URL", "sqlite:////proc/nowhere/haul.db", "/proc/nowhere/haul.db cannot be opened: No such file or directory"),
        ("up", "HAUL_PROFILE", "huge", "Input should be 'development', 'staging' or 'production'"),
        ("up", "HAUL_BATCH_ITEMS", "0", "Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_of_the_store_is_named_with_its_fix_and_nothing_is_started(
    tmp_path: Path, command: str, variable: str, value: str, words: str
) -> None:
    code, said = run(tmp_path, command, {variable: value})
    assert code == 2, said
    assert f"haul: {variable}: {words}" in said
    assert "server runs" not in said


def test_a_store_that_we_may_not_write_to_is_told_before_anything_is_started(tmp_path: Path, reader: str) -> None:
    code, said = run(tmp_path, "up", {"HAUL_STORE_URL": reader})
    assert code == 2
    assert said.startswith("haul: HAUL_STORE_URL: the user 'reader' may not use the database 'haul'; give it the role readWrite")
    assert "hunter2" not in said


def test_a_store_that_is_away_is_told_before_anything_is_started(tmp_path: Path) -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/haul?serverSelectionTimeoutMS=300"
    code, said = run(tmp_path, "up", {"HAUL_STORE_URL": url})
    assert code == 3
    assert said.startswith("haul: store: MongoDB database 'haul': no server answers")
