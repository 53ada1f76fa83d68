"""A store that cannot be used is told before anything is started: which setting is wrong, what to do; and nothing is left behind.

What else can be wrong with its address, its login or its role is told by the same look (`tests/contract/test_mongo_servers.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import SERVICES
from worker.cli.servers import free_port

WAIT_S = 60.0


@pytest.mark.skipif(SERVICES, reason="it is about the stack's own start")
@pytest.mark.parametrize(
    ("command", "variable", "value", "code", "words"),
    [
        (
            "up",
            "HAUL_STORE_URL",
            "sqlite:////proc/nowhere/haul.db",
            2,
            "HAUL_STORE_URL: /proc/nowhere/haul.db cannot be opened: No such file",
        ),
        (
            "get http://127.0.0.1:9/x",
            "HAUL_STORE_URL",
            "mongodb://127.0.0.1:1/a.b",
            2,
            "HAUL_STORE_URL: 'a.b' cannot be the name of a data",
        ),
        (
            "up",
            "HAUL_STORE_URL",
            "mongodb://127.0.0.1:{}/haul?serverSelectionTimeoutMS=100",
            3,
            "store: MongoDB database 'haul': no server",
        ),
        ("up", "HAUL_BATCH_ITEMS", "0", 2, "HAUL_BATCH_ITEMS: Input should be greater than or equal to 1"),
    ],
    ids=["cannot be opened", "wrong name", "away", "batch of none"],
)
def test_a_store_that_cannot_be_used_is_told_before_anything_is_started(
    tmp_path: Path, command: str, variable: str, value: str, code: int, words: str
) -> None:
    data = tmp_path / "data"
    rest = {name: value for name, value in os.environ.items() if not name.startswith("HAUL_")}
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", *command.split()],
        env={**rest, "HAUL_DATA_DIR": str(data), "HAUL_API_PORT": "0", variable: value.format(free_port())},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert f"haul: {words}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "server runs" not in done.stderr
    assert not [path for path in data.rglob("*") if path.name not in ("logs", "haul.log", "stack.lock")]
