"""What the faults of the store look at: the states of all jobs over time, and what each door answers meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.e2e.stack import Stack, eventually
from worker.cli.servers import free_port
from worker.jobs.errors import Transient
from worker.jobs.states import TERMINAL, TRANSITIONS, State
from worker.ports import JobFilter, JobStore
from worker.store import open_store

#: A door answers within this time, whatever became of the store: two time-outs of a call, and what a busy machine takes beside.
ANSWER_S = 45.0
#: A process that is started beside many others.
START_S = 90.0
CLIENTS = 60
LOOK_S = 0.1


class Watch:
    """Looks at all records again and again, past the fault; a context manager. `check` tells whether any went back.

    Args:
        url: the store's own address.
    """

    def __init__(self, url: str) -> None:
        self._store = open_store(url)
        self._seen: defaultdict[str, list[tuple[int, State]]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(2 * ANSWER_S)
        self._store.close()

    def check(self, *ids: str) -> None:
        """Every job was seen, and went on only: its version grew, by at least as many moves of the table as its state tells of."""
        assert not set(ids) - set(self._seen)
        for id, seen in self._seen.items():
            for (version, state), (next_version, next_state) in pairwise(seen):
                went = moves(state, next_state)
                assert went is not None, f"{id} went from {state} to {next_state}: {seen}"
                assert went <= next_version - version, f"{id} changed without a version: {seen}"
            assert [state for _, state in seen if state in TERMINAL] in ([], [seen[-1][1]]), f"{id} left its end: {seen}"

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._look(self._store)

    def _look(self, store: JobStore) -> None:
        try:
            jobs = store.page(JobFilter(), 1000).jobs
        except Transient:
            return
        for job in jobs:
            if not self._seen[job.id] or self._seen[job.id][-1] != (job.version, job.state):
                self._seen[job.id].append((job.version, job.state))


def moves(old: State, new: State) -> int | None:
    """How many moves of the table lead from one state to the other, at least; None when none do."""
    reached, n = {old}, 0
    while new not in reached:
        further = reached | {to for (start, to) in TRANSITIONS if start in reached}
        if further == reached:
            return None
        reached, n = further, n + 1
    return n


class Api:
    """`haul api` of a stack, in a process of its own."""

    def __init__(self, stack: Stack, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = stack.run("worker.cli", "api", HAUL_API_PORT=str(port), **environment)
        eventually(self._answers, "the API answers", START_S, stack.tail)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        """GET, or POST with a body; in bounded time."""
        return requests.request("POST" if body else "GET", self.url + path, json=body, timeout=ANSWER_S)

    def add(self, **wish: Any) -> str:
        """Ask for a download as often as it takes; the job's id."""
        return str(eventually(lambda: (answer := self.ask("/v1/jobs", wish)).ok and answer.json(), f"{wish} is taken", 3 * ANSWER_S)["id"])

    def _answers(self) -> bool:
        try:
            return self.ask("/health").ok
        except requests.ConnectionError:
            return False


def haul(stack: Stack, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A `haul` command of this stack, in bounded time."""
    command = [sys.executable, "-W", "ignore", "-m", "worker.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, **stack.environment(), **environment}, capture_output=True, text=True, timeout=ANSWER_S, check=False
    )


def check_refused(answer: requests.Response) -> None:
    """The API says that the store is away, and when to come again."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert answer.json()["detail"].startswith("store: "), answer.text


def check_doors_closed(stack: Stack, api: Api, id: str, *, readable: bool = False, code: int = 3, **environment: str) -> None:
    """Every door that needs the store says so, in bounded time to many callers at once; what does not need it still answers.

    Args:
        id: of a job.
        readable: the store can be read, and doors that only read answer.
        code: with which commands end.
    """
    wish = {"uri": stack.origin.url("file/refused?size=1"), "user": "refused"}
    with ThreadPoolExecutor(CLIENTS + 8) as pool:
        begun = time.monotonic()
        writes = [pool.submit(api.ask, "/v1/jobs", wish) for _ in range(CLIENTS)]
        reads = [pool.submit(api.ask, path) for path in ("/v1/jobs", f"/v1/jobs/{id}")]
        add, *shows = (pool.submit(haul, stack, *line, **environment) for line in (["add", wish["uri"]], ["list"], ["show", id]))
        assert api.ask("/health").status_code == 200
        healthy_s = time.monotonic() - begun
        for each in writes:
            check_refused(each.result())
        told_s = time.monotonic() - begun
        for each in reads:
            check_open(each.result()) if readable else check_refused(each.result())
        check_command(add.result(), code)
        for each in shows:
            check_command(each.result(), 0 if readable else code)
    assert healthy_s < told_s or healthy_s < 5, "its health is asked past those who wait"
    ready = api.ask("/ready").json()["checks"]
    assert (ready["store"]["ok"], ready["redis"]["ok"]) == (readable, True)
    assert readable or ready["store"]["error"].startswith("store: ")
    print(f"{CLIENTS} callers were told within {told_s:.1f} s")


def check_open(answer: requests.Response) -> None:
    """The API answers as ever."""
    assert answer.ok, answer.text


def check_command(done: subprocess.CompletedProcess[str], code: int) -> None:
    """It ended with this code, and said in a line why."""
    assert done.returncode == code, done
    assert code == 0 or (done.stderr.startswith(("haul: store: ", "haul: HAUL_STORE_URL: ")) and done.stderr.count("\n") == 1), done.stderr


def rss_mb(pid: int) -> float:
    """The memory a process holds now, in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
