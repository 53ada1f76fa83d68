"""A stack as in production, but small: servers, worker processes, and the services of the test process beside them.

The environment variable HAUL_TEST_STACK says what it rests on, by settings alone: unset, SQLite and Valkey; `services`, MongoDB
(HAUL_TEST_MONGODB_URL, which a fixture sets to a server of its own) and Redis.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.e2e.engines import Aria2, EngineItself, Qbittorrent, aria2c_program, qbittorrent_program
from tests.e2e.processes import CeleryWorker, ForkedWorker, Program, Worker
from tests.mongodb import own_database
from tests.origin import Origin, content
from tests.servers import redis_program
from tests.waiting import TIMEOUT_S, eventually
from worker import pipeline, wiring
from worker.cli.servers import Server, start_aria2c, start_valkey
from worker.cli.servers.qbittorrent import start_qbittorrent
from worker.jobs.errors import Rejected
from worker.jobs.model import Job
from worker.jobs.requests import parse
from worker.jobs.states import TERMINAL, Action, State
from worker.ports import Services
from worker.settings import Settings, load

#: True when the stacks rest on MongoDB and Redis.
SERVICES = {"": False, "services": True}[os.environ.get("HAUL_TEST_STACK", "")]
MONGODB = "HAUL_TEST_MONGODB_URL"
#: What aria2 may fetch again after a break: its disk cache and what is on the way, on a slow line far less.
SLACK_BYTES = 256 * 1024
LOG_TAIL_LINES = 80


@functools.cache
def digest(size: int, seed: int = 0) -> str:
    """SHA-256 of what the origin serves for (size, seed)."""
    return hashlib.sha256(content(size, seed)).hexdigest()


def sha256(path: str | Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Stack:
    """One data directory with its servers and workers; a context manager.

    Args:
        directory: of everything the stack writes.
        slots: of each of its engines.
        engines: their names, `aria2` and `qbittorrent`; more of them as `aria2-2`.
        servers: engines to use instead of ones of its own, by name.
        aria2c: the program to run as aria2.
        redis: the program to run as Redis.
        store_url: address of the store, instead of the one all stacks rest on.
    """

    def __init__(
        self,
        directory: Path,
        *,
        slots: int = 32,
        engines: Sequence[str] = ("aria2",),
        servers: Mapping[str, Server] | None = None,
        aria2c: Path | None = None,
        redis: Path | None = None,
        store_url: str | None = None,
    ) -> None:
        self.directory = directory
        self.downloads = directory / "downloads"
        self.log = directory / "worker.log"
        self.slots = slots
        self.workers: list[Worker] = []
        self.origin = Origin()
        self.engines: dict[str, EngineItself] = {}
        self._names = engines
        self._shared = servers or {}
        self._aria2c = aria2c
        self._redis = redis
        self._store_url = store_url
        self._held = ExitStack()

    def __enter__(self) -> Stack:
        try:
            self._enter()
        except BaseException:
            self._held.close()
            raise
        return self

    def _enter(self) -> None:
        self.downloads.mkdir(parents=True)
        self._held.enter_context(self.origin)
        self.redis = start_valkey(self._redis or redis_of_stacks(), self.directory)
        self._held.callback(self.redis.stop)
        self.store_url = self._own_store() if self._store_url is None else self._store_url
        for name in self._names:
            server = self._shared.get(name) or self._start(name)
            self.engines[name] = {"aria2": Aria2, "qbittorrent": Qbittorrent}[name.partition("-")[0]](server)
        self.settings = self._settings()
        self.services: Services = wiring.build(self.settings)
        self._held.callback(self.services.close)

    def _own_store(self) -> str:
        return self._held.enter_context(own_database(os.environ[MONGODB])) if SERVICES else ""

    def _start(self, name: str) -> Server:
        if name.startswith("aria2"):
            home = self.directory if name == "aria2" else self.directory / name
            home.mkdir(exist_ok=True)
            server = start_aria2c(self._aria2c or aria2c_program(), home, self.downloads, slots=self.slots)
        else:
            server = start_qbittorrent(qbittorrent_program(), self.directory, self.downloads, slots=self.slots, discovery=False)
        self._held.callback(server.stop)
        return server

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        self._held.close()

    def _settings(self) -> Settings:
        return load(**{name.removeprefix("HAUL_").lower(): value for name, value in self.environment().items()})

    @property
    def aria2(self) -> Server:
        """The aria2c."""
        return self.engines["aria2"].server

    def environment(self) -> dict[str, str]:
        """What a process of this stack finds in its environment."""
        options = f"slots={self.slots}&dir={self.downloads}"
        engines = [f"{engine.server.url}?name={name}&{options}" for name, engine in self.engines.items()]
        return {
            "HAUL_DATA_DIR": str(self.directory),
            "HAUL_STORE_URL": self.store_url,
            "HAUL_REDIS_URL": self.redis.url,
            "HAUL_ENGINES": ",".join(engines),
            "HAUL_ALLOW_NETWORKS": "127.0.0.0/8",
            "HAUL_LOG_LEVEL": "info",
        }

    # ---- processes ----

    def work(self, kind: type[CeleryWorker] | type[ForkedWorker] = ForkedWorker, *, ready: bool = True, **environment: str) -> Worker:
        """Start a worker with a supervisor; returns when it looks after the engines, or at once unless `ready`."""
        worker = kind({**self.environment(), **environment}, self.log)
        self.workers.append(worker)
        if ready:
            eventually(
                lambda: self.owner() == worker.pid or worker.ended() is not None, "the worker looks after the engines", seen=self.tail
            )
            assert worker.ended() is None, f"the worker ended: {self.tail()}"
        return worker

    def run(self, *program: str, **environment: str) -> Program:
        """Start `python -m program…` with the environment of this stack; it is killed with the stack, if it runs then."""
        started = Program({**self.environment(), **environment}, self.log, *program)
        self._held.callback(started.kill)
        return started

    def owner(self) -> int | None:
        """The process that looks after all the engines, as their snapshots say."""
        snapshots = self.services.coordinator.snapshots()
        seen = {int(snapshot.owner.split(":")[1]) for snapshot in snapshots.values() if snapshot.error is None}
        return seen.pop() if len(seen) == 1 and len(snapshots) == len(self.engines) else None

    def may_write(self) -> bool:
        """True when no process holds the store's lock; MongoDB has none."""
        if self.store_url:
            return True
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
        engine = self.engines["aria2"]
        assert isinstance(engine, Aria2)
        return engine.rpc(method, *params)

    @property
    def qbittorrent(self) -> Qbittorrent:
        """qBittorrent itself."""
        engine = self.engines["qbittorrent"]
        assert isinstance(engine, Qbittorrent)
        return engine

    # ---- jobs ----

    def ask(self, uri: str | None, user: str, key: str | None = None, **spec: Any) -> str:
        """Accept a job as the API does; its id. `uri` may be a path of the origin; without one there is a `torrent`."""
        return self.ask_all([{"uri": uri, "user": user, **({"key": key} if key else {}), **spec}])[0]

    def ask_all(self, specs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Accept several jobs at once; their ids. None may be refused."""
        answers = pipeline.accept(self.services, [parse({**spec, "uri": self._absolute(spec.get("uri"))}) for spec in specs])
        refused = [answer for answer in answers if isinstance(answer, Rejected)]
        assert not refused, refused
        return [answer.job.id for answer in answers if isinstance(answer, pipeline.Accepted)]

    def _absolute(self, uri: str | None) -> str | None:
        return uri if uri is None or "://" in uri or uri.startswith("magnet:") else self.origin.url(uri)

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
        """The name of the job's present attempt at its engine; aria2's when nothing tells any more which that was."""
        name = (job.transfer.engine if job.transfer else job.engine) or "aria2"
        return self.services.engines[name].handle(job.id, job.attempt)

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
        """Every engine has forgotten all attempts at the job, asked itself, and its work directory does not exist."""
        work = self.work_directory(job.id)
        for name, engine in self.engines.items():
            handles = [self.services.engines[name].handle(job.id, attempt + 1) for attempt in range(job.attempt)]
            eventually(lambda: not any(map(engine.knows, handles)), f"{name} forgets {job.id}", seen=lambda: story(self.job(job.id)))  # noqa: B023
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


def redis_of_stacks() -> Path:
    """What their Redis is: Valkey for the embedded ones, as a user has it."""
    return redis_program("redis" if SERVICES else None)
