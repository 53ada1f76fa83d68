"""A process whose threads take tokens of one bucket as fast as they are told; prints what it got, and its own clock.

python -m tests.integration.taker URL PREFIX RATE BURST THREADS SECONDS [ping]     begins when a line comes on its standard input
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from redis import Redis

from worker.coordination.redis import RedisCoordinator
from worker.jobs.tiers import Bucket


def now(server: Redis) -> float:
    """The server's clock."""
    whole, part = server.time()
    return float(whole) + float(part) / 1e6


def p99(seconds: list[float]) -> float:
    """What one in a hundred exceeds."""
    return sorted(seconds)[int(len(seconds) * 0.99)]


def main() -> None:
    """Take until the time is over, and then what is left."""
    url, prefix, *figures = sys.argv[1:7]
    pinging = sys.argv[7:] == ["ping"]
    rate, burst, threads, seconds = (float(figure) for figure in figures)
    redis, bucket = RedisCoordinator(url, prefix=prefix), Bucket("raced", rate, burst)
    redis.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    server = Redis.from_url(url)
    [wait] = redis.take_tokens([[bucket]])
    begun_at, first = now(server), wait == 0  # a bucket that is full gains nothing until somebody takes
    end = time.monotonic() + seconds
    lock, waits, pings = threading.Lock(), [0.0], [0.0]

    def take() -> int:
        taken = 0
        while True:
            begun = time.perf_counter()
            [wait] = redis.take_tokens([[bucket]])
            with lock:
                waits.append(time.perf_counter() - begun)
            taken += wait == 0
            if pinging:
                begun = time.perf_counter()
                redis.ping()
                pings.append(time.perf_counter() - begun)
            if wait and time.monotonic() + wait > end:
                return taken
            time.sleep(wait)

    with ThreadPoolExecutor(int(threads)) as pool:
        taken = first + sum(pool.map(lambda _: take(), range(int(threads))))
    [left] = redis.tokens([bucket])
    ended_at = now(server)
    server.close()
    figures_ = {"taken": taken, "calls": len(waits), "p99_s": p99(waits), "p99_ping_s": p99(pings)}
    print(json.dumps({**figures_, "clock": time.time(), "begun": begun_at, "left": left, "ended": ended_at}), flush=True)
    redis.close()


if __name__ == "__main__":
    main()
