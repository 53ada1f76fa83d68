"""Each role in a process of its own, as containers run them: a prefork worker, a supervisor, and a door. No beat."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.processes import Program
from tests.e2e.stack import Stack, digest, eventually
from tests.origin import content
from tests.torrents import pack, web_seeded
from worker.cli.servers import free_port

#: Far less than beat's minute and a sweeper's ten seconds for each of the steps.
SOON_S = 45.0
SIZE, SEED = 300_000, 11
ENGINES = ("aria2", "qbittorrent")


@pytest.fixture
def roles(tmp_path: Path) -> Iterator[tuple[Stack, Program, str]]:
    """The stack with its worker, its supervisor, and where the supervisor answers probes."""
    probes = free_port()
    with Stack(tmp_path / "stack", engines=ENGINES) as stack:
        supervisor = stack.run("worker.cli", "supervise", HAUL_METRICS_PORT=str(probes))
        celery = ("celery", "-A", "worker", "worker", "--pool", "prefork", "--concurrency", "2", "--without-gossip", "--without-mingle")
        stack.run(*celery, HAUL_ALIVE_PATH=str(tmp_path / "alive"))
        eventually(lambda: stack.owner() is not None and (tmp_path / "alive").exists(), "both roles are up", seen=stack.tail)
        yield stack, supervisor, f"http://127.0.0.1:{probes}"


def test_a_supervisor_alone_sends_the_messages_that_move_a_job(roles: tuple[Stack, Program, str], tmp_path: Path) -> None:
    stack, supervisor, probes = roles
    job = stack.ask(f"/file/apart?size={SIZE}&seed={SEED}", "ann")
    done = stack.until(job, "done", timeout_s=SOON_S)
    assert done.result is not None
    stack.check_delivered(job, digest(SIZE, SEED))

    health = requests.get(f"{probes}/health", timeout=30)
    assert health.status_code == 200
    assert set(health.json()["loops"]) == {"engine-aria2", "engine-qbittorrent", "sweeper"}
    assert requests.get(f"{probes}/ready", timeout=30).status_code == 200
    assert "haul_tick_seconds_count" in requests.get(f"{probes}/metrics", timeout=30).text
    assert requests.get(f"{probes}/v1/jobs", timeout=30).status_code == 404, "it serves probes and nothing else"

    seen = (tmp_path / "alive").stat().st_mtime
    eventually(lambda: (tmp_path / "alive").stat().st_mtime > seen, "the worker's heart beats on", seen=stack.tail)
    assert time.time() - seen < SOON_S
    assert supervisor.stop() == 0


def test_torrents_that_come_by_the_api_are_fetched_by_both_engines_and_a_silent_address_holds_up_none(
    roles: tuple[Stack, Program, str], tmp_path: Path
) -> None:
    stack, supervisor, _ = roles
    port = free_port()
    api = stack.run("worker.cli", "api", HAUL_API_PORT=str(port))
    try:
        jobs = f"http://127.0.0.1:{port}/v1/jobs"
        eventually(lambda: answers(jobs), "the API answers", seen=stack.tail)
        silent = ask(jobs, uri=stack.origin.url("hang/silent.torrent"))
        eventually(lambda: stack.origin.requests["/hang/silent.torrent"], "the silent address is asked", seen=stack.tail)
        ids = {}
        for engine in ENGINES:
            made = web_seeded(stack.origin, pack({"only": content(SIZE, SEED)}, name=f"{engine}.bin", single=True))
            ids[engine, "upload"] = ask(jobs, torrent=base64.b64encode(made.document).decode(), engine=engine)
            other = web_seeded(stack.origin, pack({"only": content(SIZE, SEED)}, name=f"{engine}-url.bin", single=True))
            ids[engine, "url"] = ask(jobs, uri=stack.origin.document(f"{engine}.torrent", other.document), engine=engine)
        begun = time.monotonic()
        for (engine, how), id in ids.items():
            stack.until(id, "done", timeout_s=SOON_S)
            stack.check_delivered(id, digest(SIZE, SEED), f"{engine}.bin" if how == "upload" else f"{engine}-url.bin")
        print(f"four torrents behind a silent address: {time.monotonic() - begun:.1f} s")
        assert requests.post(f"{jobs}/{silent}/cancel", timeout=10).json()["state"] == "cancelled"
    finally:
        assert api.stop() == 0
    assert supervisor.stop() == 0


def answers(url: str) -> bool:
    """Whether the API is up."""
    try:
        return requests.get(url, timeout=30).status_code == 200
    except requests.ConnectionError:
        return False


def ask(jobs: str, **spec: str) -> str:
    """The id of a new job."""
    answer = requests.post(jobs, json={"user": "ann", **spec}, timeout=20)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_supervising_worker_that_finds_no_store_says_so_and_ends(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    addresses = {"STORE_URL": f"mongodb://{nobody}/haul", "REDIS_URL": f"redis://{nobody}/0", "ENGINES": f"aria2+http://{nobody}/jsonrpc"}
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "threads", "--supervise"],
        env={**os.environ, "HAUL_DATA_DIR": str(tmp_path), **{f"HAUL_{name}": value for name, value in addresses.items()}},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 3
    assert f"no server answers ({nobody}" in ended.stderr
    assert "Traceback" not in ended.stderr
