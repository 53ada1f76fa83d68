"""Runs docker-compose.yml for real: build, start, download one file by the API, take everything down again.

`make compose-test`; needs Docker with Compose 2.24 or later. A project name, secrets, ports and volumes of its own keep it away
from a stack that runs here.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "tests/smoke/compose.test.yml")
PROJECT = "haul-compose-test"
START_TIMEOUT_S = 300
#: Less than beat's minute: what no nudge moved would be late.
DOWNLOAD_TIMEOUT_S = 30
SCRAPE_TIMEOUT_S = 60
FILE_BYTES = 8 << 20
TARGETS = 4
POLL_S = 0.5
ERROR_CHARS_MAX = 4000


class Stack:
    """The containers of one test run."""

    def __init__(self, directory: Path) -> None:
        self._environment = {**os.environ, "SECRETS": str(directory / "secrets"), "ORIGIN": str(directory / "origin")}
        self._key = ""

    def start(self) -> None:
        subprocess.run([ROOT / "deploy/secrets.sh", self._environment["SECRETS"]], check=True, timeout=30)
        self._key = Path(self._environment["SECRETS"], "api_keys").read_text()
        self.compose("up", "--detach", "--build", "--wait", "--wait-timeout", str(START_TIMEOUT_S), timeout_s=3 * START_TIMEOUT_S)

    def stop(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run `docker compose`; what it printed."""
        files = [part for name in FILES for part in ("--file", name)]
        command = ["docker", "compose", "--project-name", PROJECT, *files, "--progress", "plain", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, timeout=timeout_s, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"docker compose {arguments[0]} failed:\n{done.stderr[-ERROR_CHARS_MAX:]}")
        return done.stdout

    def api(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        address = self.compose("port", "api", "8060").strip()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        request = Request(f"http://{address}{path}", json.dumps(body).encode() if body else None, headers)
        with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
            return json.load(answer)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        origin = directory / "origin"
        origin.mkdir()
        (origin / "file.bin").write_bytes(secrets.token_bytes(FILE_BYTES))
        directory.chmod(0o755)  # the containers' user reads the origin's file
        stack = Stack(directory)
        try:
            stack.start()
            downloads_a_file(stack, origin / "file.bin")
            keeps_the_engine_apart(stack)
            is_scraped(stack)
        except BaseException:
            print(stack.compose("ps", "--all"), stack.compose("logs", "--tail", "40"), sep="\n")
            raise
        finally:
            stack.stop()
    print("compose-test: every service is healthy, a file was downloaded by the API, and all of it is gone again")


def downloads_a_file(stack: Stack, original: Path) -> None:
    """The API takes a job; the file is in place, whole, and seen by the worker."""
    sha256 = hashlib.sha256(original.read_bytes()).hexdigest()
    job = stack.api("/v1/jobs", {"uri": f"http://origin:8000/{original.name}", "user": "smoke", "sha256": sha256})
    deadline = time.monotonic() + DOWNLOAD_TIMEOUT_S
    while job["state"] not in ("done", "failed", "cancelled") and time.monotonic() < deadline:
        time.sleep(POLL_S)
        job = stack.api(f"/v1/jobs/{job['id']}")
    assert job["state"] == "done", json.dumps(job, indent=2)
    found = stack.compose("exec", "-T", "worker", "sha256sum", job["path"]).split()[0]
    assert found == sha256, f"{job['path']} is not what the origin served"


def keeps_the_engine_apart(stack: Stack) -> None:
    """A download cannot be pointed at Redis, the API or Prometheus: the engine does not even know their names."""
    look = "import socket, sys\nfor name in sys.argv[1:]:\n try: print(name, socket.gethostbyname(name))\n except OSError: pass"
    known = stack.compose("exec", "-T", "aria2", "python", "-c", look, "redis", "api", "flower", "prometheus", "beat")
    assert known == "", f"aria2 resolves {known}"


def is_scraped(stack: Stack) -> None:
    """Prometheus reaches every target."""
    deadline = time.monotonic() + SCRAPE_TIMEOUT_S
    while health(stack) != ["up"] * TARGETS:
        assert time.monotonic() < deadline, f"Prometheus sees its targets as {health(stack)}"
        time.sleep(POLL_S)


def health(stack: Stack) -> list[str]:
    answer = stack.compose("exec", "-T", "prometheus", "wget", "-qO-", "http://localhost:9090/api/v1/targets")
    return [target["health"] for target in json.loads(answer)["data"]["activeTargets"]]


if __name__ == "__main__":
    main()
