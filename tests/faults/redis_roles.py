"""A stack with worker and supervisor in processes of their own: no step of a job runs there unless a Celery message tells of it."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from redis import Redis

from tests.e2e.processes import Program
from tests.e2e.stack import Stack, digest, eventually
from tests.tcp_proxy import TcpProxy

PREFORK = ("celery", "-A", "worker", "worker", "--pool", "prefork", "--concurrency", "3", "--without-gossip", "--without-mingle")
THREADS = ("celery", "-A", "worker", "worker", "--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle")
SIZE = 100_000
#: Less than half of the time between two sweeps, so what is done in it did not wait for one.
SOON_S = 4.5
START_S = 60.0
CELERY_CLIENT = "haul-celery"


def address(url: str) -> str:
    """The host and port of a URL with a secret."""
    return url.rpartition("@")[2].partition("/")[0]


def through(stack: Stack, proxy: TcpProxy) -> str:
    """The address of the stack's Redis by way of a proxy."""
    return stack.redis.url.replace(address(stack.redis.url), proxy.address)


def roles(stack: Stack, worker: Iterable[str] = PREFORK, **environment: str) -> tuple[Program, Program]:
    """Start supervisor and worker; returns them when both are up."""
    supervisor = stack.run("worker.cli", "supervise", **environment)
    return supervisor, celery(stack, worker, **environment)


def celery(stack: Stack, worker: Iterable[str] = PREFORK, **environment: str) -> Program:
    """Start a worker; returns it when it is up, and a supervisor too."""
    environment = {"HAUL_ALIVE_PATH": str(stack.directory / f"alive-{secrets.token_hex(4)}"), **environment}
    alive, started = Path(environment["HAUL_ALIVE_PATH"]), stack.run(*worker, **environment)

    def up() -> bool:
        return stack.owner() is not None and alive.exists()

    eventually(lambda: up() or started.ended() is not None, "both roles are up", START_S, stack.tail)
    assert started.ended() is None, stack.tail()
    return started


def files(count: int, name: str = "load", rate: int = 0, size: int = SIZE) -> list[dict[str, Any]]:
    """Requests for files of the origin, by some users; `rate` in bytes a second."""
    slow = f"&rate={rate}" if rate else ""
    return [{"uri": f"file/{name}-{n}?size={size}&seed={n % 5}{slow}", "user": f"u{n % 7}", "key": f"{name}-{n}"} for n in range(count)]


def latency(stack: Stack, timeout_s: float = 60.0) -> float:
    """Seconds from asking for a new file until it is done."""
    [spec] = files(1, f"fresh-{secrets.token_hex(4)}")
    begun = time.monotonic()
    stack.until(stack.ask_all([spec])[0], "done", timeout_s=timeout_s)
    return time.monotonic() - begun


def check_once(stack: Stack, jobs: Mapping[str, Mapping[str, Any]], timeout_s: float = 60.0) -> None:
    """Every job is done with the right bytes, at its first attempt, and each was asked for and fetched once.

    Args:
        jobs: the requests (`files`) by id.
    """
    for done, spec in zip(stack.until_all(list(jobs), timeout_s=timeout_s), jobs.values(), strict=True):
        path, _, query = str(spec["uri"]).partition("?")
        values = dict(pair.split("=") for pair in query.split("&"))
        stack.check_delivered(done.id, digest(int(values["size"]), int(values["seed"])))
        served = (stack.origin.requests[f"/{path}"], stack.origin.bytes_served[f"/{path}"], done.attempt)
        assert served == (1, int(values["size"]), 1), f"{path}: {served}"


def check_told(stack: Stack, ids: Iterable[str]) -> None:
    """The outside was told of each that it was queued, started and completed, in this order and nothing else."""
    assert {tuple(stack.told(id)) for id in ids} == {("job.queued", "job.started", "job.completed")}


def is_owned(stack: Stack, engine: str = "aria2") -> bool:
    """Whether somebody holds the lease of an engine; nobody loses it by the question."""
    lease = stack.services.store.acquire_lease(f"engine:{engine}", "the test", 1.0)
    if lease is not None:
        stack.services.store.release_lease(lease)
    return lease is None


def stand_still(stack: Stack, worker: Program) -> bool:
    """SIGSTOP; false, and SIGCONT, when it was writing, for then SQLite would let nobody write."""
    worker.signal(signal.SIGSTOP)
    if stack.may_write():
        return True
    worker.signal(signal.SIGCONT)
    return False


def blocked_in_brpop(redis: Redis) -> bool:
    """Whether a Celery worker waits for a message at this moment."""
    rows = [row for row in redis.client_list() if row["name"] == CELERY_CLIENT]
    return any(row["cmd"] == "brpop" and "b" in row["flags"] for row in rows)


def stop_redis(stack: Stack, *, hard: bool = False) -> None:
    """End the stack's Redis, by SIGKILL when `hard`."""
    process = stack.redis.process
    (process.kill if hard else process.terminate)()
    process.wait(20)


def start_redis(stack: Stack) -> None:
    """Start it again under its address, with what its file has."""
    stack.redis.restart()
    stack.redis.await_ready()


def log_of(stack: Stack) -> str:
    """Everything the processes of the stack logged."""
    return stack.log.read_text(errors="replace")
