"""A MongoDB for the tests: SecantusDB in a tool environment of its own, or whatever `HAUL_TEST_MONGODB_URL` names."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from tests.servers import missing
from worker.cli.servers import free_port

PACKAGE = "SecantusDB>=0.7.0b3"
#: The first time on a machine fetches the package.
INSTALL_S = 90.0
START_S = 60.0
STOP_S = 10.0


class MongoServer:
    """A standalone server of the test's own, on a free port, that keeps its data in `directory`.

    Args:
        options: further options of the program.
        environment: what it finds in its environment beside ours.
    """

    def __init__(self, directory: Path, *options: str, **environment: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._log = directory / "server.log"
        self._environment = {**os.environ, **environment}
        self._command = [str(_program()), "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", str(directory / "data")]
        self._command += ["--standalone", "--sync-on-commit", "--cache-size", "64M"]
        self.start(*options)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self._process.poll() is None

    def start(self, *options: str) -> None:
        """Start it, again or for the first time, and wait until it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, *options], stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"SecantusDB did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a machine that loses its power does."""
        self._process.kill()
        self._process.wait(STOP_S)


@contextmanager
def mongo_server(directory: Path, *options: str, **environment: str) -> Iterator[MongoServer]:
    """A server for a test that has to end it, or needs it otherwise than the others."""
    server = MongoServer(directory, *options, **environment)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """The address of a server for many tests, `mongodb://…/`, each of which takes a database of its own."""
    if named := os.environ.get("HAUL_TEST_MONGODB_URL"):
        yield named
        return
    with mongo_server(directory) as server:
        yield f"mongodb://{server.address}/"


@contextmanager
def own_database(server_url: str) -> Iterator[str]:
    """The address of a database that is gone afterwards; one of ours goes with its server, for it takes SecantusDB seconds to drop one."""
    name = f"haul-test-{uuid.uuid4().hex[:12]}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    yield url
    if server_url != os.environ.get("HAUL_TEST_MONGODB_URL"):
        return
    client: MongoClient[dict[str, object]] = MongoClient(url)
    try:
        client.drop_database(name)
    except AutoReconnect:
        pass  # the test has ended its server
    finally:
        client.close()


def with_options(url: str, options: str) -> str:
    """The address with further options of the driver."""
    return f"{url}{'&' if '?' in url else '?'}{options}"


@functools.cache  # to ask `uv` takes longer than to start the server
def _program() -> Path:
    """SecantusDB, in an environment that `uv` keeps apart from ours: it is no dependency, and its licence is another."""
    uv = shutil.which("uv") or shutil.which(".tools/uv")
    if uv is None:
        missing("uv, which brings SecantusDB", "python3 bin/bootstrap.py .tools/uv, or set HAUL_TEST_MONGODB_URL")
    run = [uv, "tool", "run", "--from", PACKAGE, "--prerelease", "allow", "python", "-c", "import sys; print(sys.prefix)"]
    asked = subprocess.run(run, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if asked.returncode:
        missing("SecantusDB", f"uv cannot bring it; set HAUL_TEST_MONGODB_URL instead: {asked.stderr.strip()[-300:]}")
    return Path(asked.stdout.strip(), "bin", "secantusd-py")
