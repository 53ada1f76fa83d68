"""Jobs that keep coming while something is broken, and what must hold of every one of them afterwards."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e.stack import SERVICES, Stack, digest, eventually, sha256, story
from worker.client import Client

SIZE = 20_000
SEEDS = 5
#: Of a number of jobs so many are asked for: the MongoDB of the tests is a stand-in, and slow.
SHARE = 0.1 if SERVICES else 1.0
USERS = 7
BEAT_S = 0.1
AT_ONCE_MAX = 50
TOLD = ("job.queued", "job.started", "job.completed")


class Load:
    """Small jobs by both doors, the bots' and the API's, from the start of the block until `stop`; a context manager.

    Args:
        rate: jobs a second.
        most: of them; then nothing more is asked for. On a slow store `SHARE` of both.

    Attributes:
        paths: of the origin, by job.
    """

    def __init__(self, stack: Stack, rate: int, most: int = 1000) -> None:
        self.paths: dict[str, str] = {}
        self._stack = stack
        self._rate = rate * SHARE
        self._most = most * SHARE
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask for no more; idempotent."""
        self._over.set()
        self._thread.join(30)
        if self._error:
            raise self._error

    def until(self, asked: int, timeout_s: float = 60.0) -> None:
        """Return when so many (on a slow store `SHARE` of them) were asked for."""
        eventually(lambda: len(self.paths) >= int(asked * SHARE) or self._error, f"{asked} jobs are asked for", timeout_s)

    def check(self, timeout_s: float) -> None:
        """Every job is done, was fetched once, is what it should be, and the outside was told once and in order."""
        self.stop()
        stack, ids = self._stack, list(self.paths)
        jobs = stack.until_all(ids, timeout_s=timeout_s)
        for job in jobs:
            path = self.paths[job.id]
            assert job.result is not None, story(job)
            assert sha256(job.result.path) == digest(SIZE, int(path.rpartition("-")[2]) % SEEDS), story(job)
            assert [entry.name for entry in Path(job.result.path).parent.iterdir()] == [Path(job.result.path).name], story(job)
        fetched = {path: stack.origin.bytes_served[path] for path in self.paths.values()}
        assert fetched == dict.fromkeys(fetched, SIZE), {path: count for path, count in fetched.items() if count != SIZE}
        check_told(stack, ids)

    def _go_on(self) -> None:
        try:
            with Client(self._stack.redis.url) as client:
                begun = time.monotonic()
                while not self._over.wait(BEAT_S):
                    due = min((time.monotonic() - begun) * self._rate, self._most)
                    specs = [self._spec(n) for n in range(len(self.paths), min(int(due), len(self.paths) + AT_ONCE_MAX))]
                    half = len(specs) // 2
                    tickets = [ticket.id for ticket in client.enqueue_many(specs[:half])]
                    tickets += self._stack.ask_all(specs[half:]) if specs[half:] else []
                    self.paths |= {id: f"/file/load-{spec['key']}" for id, spec in zip(tickets, specs, strict=True)}
        except BaseException as error:  # the test reads it
            self._error = error

    def _spec(self, number: int) -> dict[str, Any]:
        uri = self._stack.origin.url(f"file/load-{number}?size={SIZE}&seed={number % SEEDS}")
        return {"uri": uri, "user": f"load-{number % USERS}", "key": str(number)}


def check_told(stack: Stack, ids: Sequence[str], types: Sequence[str] = TOLD) -> None:
    """The outside was told these events of every job, in order, each under one id however often it came."""
    eventually(lambda: not stack.services.store.unsent(1), "all is told", seen=stack.tail)
    events, _ = stack.services.coordinator.read_events("0-0", 100_000, 0)
    told: defaultdict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for event in events:
        assert told[event["job"]].setdefault(event["id"], event) == event, "a repeat is the same event"
    for id, job in stack.services.store.get(ids).items():
        assert list(told[id]) == [f"{id}:{event.version}" for event in job.events if event.type], story(job)
        assert [event["type"] for event in told[id].values()] == list(types), story(job)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def processes_of(directory: Path) -> list[str]:
    """What works in a directory, this process left out: by its open files, among which is its log."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (entry / "fd").iterdir()] if int(entry.name) != os.getpid() else []
            if any(link.startswith(str(directory)) for link in links):
                found.append(f"{entry.name} {(entry / 'cmdline').read_text()}".replace("\0", " "))
        except OSError:
            continue
    return found
