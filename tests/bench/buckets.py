"""The token buckets beside a script that does nothing, beside other limiters, and asked by many processes at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from tests.servers import redis_program
from worker.cli.servers import start_valkey
from worker.coordination.redis import RedisCoordinator
from worker.jobs.tiers import Bucket

#: None of it is ever empty: a start that may go ahead is the usual one.
PLENTY = Bucket("start:tier:free", 1e6, 1e6)
#: What `peers` ask for.
SAME = Bucket("request:user:bench", 1_000, 1_000)
CALLS = 1_000
PROCESSES = 8
PEERS_S = 2.0
TAKERS_S = "5"
SCRIPT = Path(__file__).parents[2] / "worker" / "coordination" / "lua" / "take_tokens.lua"


def buckets(directory: Path, rounds: int) -> dict[str, Any]:
    """Decisions a second and their p99: the script against a trivial one, the whole call against other limiters."""
    server = start_valkey(redis_program(), directory)
    try:
        return {**_against_trivial(server.url, rounds), **_against_peers(server.url, rounds), **_contended(server.url)}
    finally:
        server.stop()


def _against_trivial(url: str, rounds: int) -> dict[str, Any]:
    """One connection, the same arguments, and a script that returns at once; call by call in turn, for a machine is never quiet."""
    redis = Redis.from_url(url)
    scripts = {"trivial": "return { 0 }", "ours": SCRIPT.read_text(), "again": "return { 0 } "}
    digests = {name: redis.script_load(text) for name, text in scripts.items()}
    took: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(CALLS * rounds):
        for name, digest in digests.items():
            begun = time.perf_counter()
            redis.evalsha(digest, 1, f"bench:{name}", 0, PLENTY.rate, PLENTY.burst, 1_000, 1, 1)
            took[name].append(time.perf_counter() - begun)
    redis.close()
    usual = {name: median(figures) for name, figures in took.items()}
    return {
        "script_us": usual["ours"] * 1e6,
        "trivial_us": usual["trivial"] * 1e6,
        "ratio_to_trivial": (usual["trivial"] + usual["again"]) / 2 / usual["ours"],
        "ratio_trivial_to_trivial": usual["trivial"] / usual["again"],
        "limit_ratio": 0.8,
    }


def _against_peers(url: str, rounds: int) -> dict[str, Any]:
    uv = shutil.which("uv") or shutil.which(".tools/uv")
    if uv is None:
        return {"peers": "uv, which brings them, is not there"}
    packages = ["--with", "limits", "--with", "throttled-py", "--with", "redis"]
    script = [str(Path(__file__).with_name("peers.py")), url, str(PEERS_S)]
    command = [uv, "run", "--isolated", "--no-project", "--python", sys.executable, *packages, "python", *script]
    coordinator, mine, theirs = RedisCoordinator(url), [], []
    for _ in range(rounds):
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            return {"peers": f"uv cannot bring them: {ran.stderr.strip()[-200:]}"}
        theirs.append(json.loads(ran.stdout))
        mine.append(_calls_a_second(lambda: coordinator.take_tokens([[SAME]])))
    coordinator.close()
    ours = median(mine)
    ratios = {f"ratio_to_{name}": ours / median(answer[name] for answer in theirs) for name in theirs[0]}
    return {"call_a_second": ours, **ratios}


def _contended(url: str) -> dict[str, Any]:
    """Seconds that a decision takes while 8 processes want of the same bucket what it does not have."""
    command = [sys.executable, "-m", "tests.integration.taker", url, "bench", "1000", "1", "1", TAKERS_S, "ping"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    answers = [json.loads(process.communicate()[0]) for process in _begun(processes)]
    return {
        "contending_processes": PROCESSES,
        "decisions": sum(answer["calls"] for answer in answers),
        "p99_s": median(answer["p99_s"] for answer in answers),
        "p99_of_a_ping_in_between_s": median(answer["p99_ping_s"] for answer in answers),
        "p99_worst_process_s": max(answer["p99_s"] for answer in answers),
        "limit_p99_s": 0.005,
    }


def _begun(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """All of them, told to begin before the first is waited for."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def _calls_a_second(ask: Callable[[], object]) -> float:
    """By the median, as `peers` counts: on a busy machine the mean tells of its neighbours."""
    took = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        ask()
        took.append(time.perf_counter() - begun)
    return 1 / median(took)
