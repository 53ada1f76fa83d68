"""Runs docker-compose.yml for real: build, start, a download by each engine through the API, take everything down again.

`make compose-test`; needs Docker with Compose 2.24 or later. A project name, secrets, ports and volumes of its own keep it away
from a stack that runs here.
"""

from __future__ import annotations

import base64
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

from tests.torrents import pack

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "tests/smoke/compose.test.yml")
PROJECT = "haul-compose-test"
BUILD_TIMEOUT_S = 900
START_TIMEOUT_S = 300
#: Less than beat's minute: what no nudge moved would be late.
DOWNLOAD_TIMEOUT_S = 30
SCRAPE_TIMEOUT_S = 60
FILE_BYTES = 8 << 20
ENGINES = ("aria2", "qbittorrent")
#: What no download may reach.
INNER = ("redis", "mongo", "api", "flower", "prometheus", "beat")
TARGETS = 4
#: Of compose.test.yml: where the origin is, which has no public address.
ORIGIN_NETWORK = "10.213.77.0/24"
POLL_S = 0.5
ERROR_CHARS_MAX = 4000


class Stack:
    """The containers of one test run."""

    def __init__(self, directory: Path) -> None:
        self._environment = {**os.environ, "SECRETS": str(directory / "secrets"), "ORIGIN": str(directory / "origin")}
        self._environment["HAUL_ALLOW_NETWORKS"] = ORIGIN_NETWORK
        self._key = ""

    def start(self) -> None:
        subprocess.run([ROOT / "deploy/secrets.sh", self._environment["SECRETS"]], check=True, timeout=30)
        self._key = Path(self._environment["SECRETS"], "api_keys").read_text()
        self.compose("build", timeout_s=BUILD_TIMEOUT_S)
        self._up("mongo")
        self.compose("run", "--rm", "-T", "mongo-user")
        self._up()

    def _up(self, *services: str) -> None:
        limit_s = str(START_TIMEOUT_S)
        self.compose("up", "--detach", "--wait", "--wait-timeout", limit_s, *services, timeout_s=2 * START_TIMEOUT_S)

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
        directory.chmod(0o755)  # the containers' user reads the origin's files
        stack = Stack(directory)
        try:
            stack.start()
            downloads_a_file(stack, origin)
            downloads_a_torrent(stack, origin)
            keeps_the_engines_apart(stack)
            guards_the_engines(stack)
            is_backed_up(stack)
            is_scraped(stack)
        except BaseException:
            print(stack.compose("ps", "--all"), stack.compose("logs", "--tail", "40"), sep="\n")
            raise
        finally:
            stack.stop()
    done = "each engine downloaded a file for the API, a backup was made and restored in a drill"
    print(f"compose-test: every service is healthy, {done}, and all of it is gone again")


def downloads_a_file(stack: Stack, origin: Path) -> None:
    """By aria2, from an address."""
    body = secrets.token_bytes(FILE_BYTES)
    (origin / "file.bin").write_bytes(body)
    delivers(stack, body, {"uri": "http://origin:8000/file.bin", "engine": "aria2"})


def downloads_a_torrent(stack: Stack, origin: Path) -> None:
    """By qBittorrent, from a `.torrent` file that is uploaded; the origin is its web seed."""
    body = secrets.token_bytes(FILE_BYTES)
    (origin / "seed.bin").write_bytes(body)
    made = pack({"seed.bin": body}, name="seed.bin", single=True, web_seeds=("http://origin:8000/seed.bin",))
    delivers(stack, body, {"torrent": base64.b64encode(made.document).decode(), "engine": "qbittorrent"})


def delivers(stack: Stack, body: bytes, spec: dict[str, Any]) -> None:
    """The API takes a job; the file is in place, whole, and seen by the worker; the engine named has done it."""
    sha256 = hashlib.sha256(body).hexdigest()
    job = stack.api("/v1/jobs", {"user": "smoke", "sha256": sha256, **spec})
    deadline = time.monotonic() + DOWNLOAD_TIMEOUT_S
    while job["state"] not in ("done", "failed", "cancelled") and time.monotonic() < deadline:
        time.sleep(POLL_S)
        job = stack.api(f"/v1/jobs/{job['id']}")
    assert job["state"] == "done", json.dumps(job, indent=2)
    found = stack.compose("exec", "-T", "worker", "sha256sum", job["path"]).split()[0]
    assert found == sha256, f"{job['path']} is not what the origin served"


def keeps_the_engines_apart(stack: Stack) -> None:
    """A download cannot be pointed at Redis, MongoDB, the API or Prometheus: the engines do not even know their names."""
    look = "import socket, sys\nfor name in sys.argv[1:]:\n try: print(name, socket.gethostbyname(name))\n except OSError: pass"
    for engine in ENGINES:
        known = stack.compose("exec", "-T", engine, "python", "-c", look, *INNER)
        assert known == "", f"{engine} resolves {known}"


def guards_the_engines(stack: Stack) -> None:
    """Each engine, asked for something at an address of the supervisor, does not get there."""
    checks = json.loads(stack.compose("exec", "-T", "supervisor", "haul", "health", "--deep", "--json"))["checks"]
    guards = {engine: checks[f"guard of {engine}"]["error"] for engine in ENGINES}
    assert guards == dict.fromkeys(ENGINES), guards


def is_backed_up(stack: Stack) -> None:
    """A backup of MongoDB is made where the clock's are, with the key of the deployment, and a drill restores it."""
    made = json.loads(stack.compose("exec", "-T", "worker", "haul", "backup", "create", "--json"))
    assert (made["good"], bool(made["key"]), made["jobs"]) == (True, True, len(ENGINES)), made
    drilled = json.loads(stack.compose("exec", "-T", "worker", "haul", "backup", "drill", "--json"))
    assert (drilled["ok"], drilled["details"]["name"]) == (True, made["name"]), drilled


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
