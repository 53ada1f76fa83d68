"""Many processes with many threads at one bucket of a real Valkey, their clocks days apart: none too many, and nearly all that is due."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.integration.taker import now
from tests.wall_clock import WallClock
from worker.cli.servers import Server
from worker.coordination.redis import RedisCoordinator
from worker.jobs.tiers import Bucket

THREADS, SECONDS = 4, 4.0
DAY_S = 86_400
START_TIMEOUT_S = 60.0


@contextmanager
def takers(valkey: Server, prefix: str, bucket: Bucket, environments: list[Mapping[str, str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """A process an environment, ready to begin together."""
    figures = [str(bucket.rate), str(bucket.burst), str(THREADS), str(SECONDS)]
    command = [sys.executable, "-m", "tests.integration.taker", valkey.url, prefix, *figures]
    processes = [
        subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for environment in environments
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def taken(processes: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """Let all begin; what each got."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(process.communicate(timeout=START_TIMEOUT_S)[0]) for process in processes]


@pytest.mark.parametrize(("rate", "burst"), [(100.0, 500.0), (200.0, 300.0)])
def test_processes_whose_clocks_are_days_apart_take_exactly_what_is_due(
    valkey: Server, key_prefix: str, tmp_path: Path, rate: float, burst: float
) -> None:
    bucket, redis = Bucket("raced", rate, burst), Redis.from_url(valkey.url)
    clocks = [WallClock(tmp_path / str(number)) for number in range(4)]
    for clock, days in zip(clocks, (-400, -1, 0, 1), strict=True):
        clock.set(days * DAY_S)
    with takers(valkey, key_prefix, bucket, [clock.environment for clock in clocks]) as processes:
        before = now(redis)
        answers = taken(processes)
    redis.close()
    last, begun = max(answers, key=lambda answer: answer["ended"]), min(answer["begun"] for answer in answers)
    total, due = sum(answer["taken"] for answer in answers), burst + rate * (last["ended"] - begun)
    print(f"{total} taken and {last['left']:.1f} left of {due:.1f} due, by {sum(answer['calls'] for answer in answers)} calls")
    assert max(abs(answer["clock"] - time.time()) for answer in answers) > DAY_S / 2, "the clocks were set"
    assert all(answer["taken"] for answer in answers), "each had its part"
    assert total + last["left"] <= burst + rate * (last["ended"] - before), "not one too many"
    assert total + last["left"] >= 0.99 * due, "none is lost"
    assert total >= 0.9 * due, "those who ask all the time get them; on a busy machine they ask less often"


def test_a_limit_lowered_while_many_take_holds_at_once(valkey: Server, key_prefix: str) -> None:
    bucket = Bucket("raced", 100.0, 50.0)
    coordinator, redis = RedisCoordinator(valkey.url, prefix=key_prefix), Redis.from_url(valkey.url)
    with takers(valkey, key_prefix, bucket, [{}, {}]) as fast:
        before = now(redis)
        first = sum(answer["taken"] for answer in taken(fast))
        between = now(redis)
    slow = Bucket("raced", 1.0, 50.0)
    with takers(valkey, key_prefix, slow, [{}, {}]) as processes:
        since = now(redis)
        [held] = coordinator.tokens([slow])
        second = sum(answer["taken"] for answer in taken(processes))
        after = now(redis)
    coordinator.close()
    redis.close()
    assert first <= 50 + 100 * (between - before)
    assert second <= held + 1 * (after - since) + 0.01
    assert second >= int(held + 1 * min(SECONDS, after - since)) - 1
