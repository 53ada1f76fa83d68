"""Everything that runs in a chaos run, started as an operator would and started again when it dies, as a container is."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Container, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from tests.e2e.engines import Aria2, EngineItself, Qbittorrent, aria2c_program, qbittorrent_program
from tests.e2e.processes import Program
from tests.mongodb import MongoServer
from tests.origin import Origin
from tests.receivers import Receiver
from tests.servers import redis_program
from tests.tcp_proxy import TcpProxy
from worker import wiring
from worker.cli.servers import Server, free_port, start_aria2c, start_valkey
from worker.cli.servers.qbittorrent import start_qbittorrent
from worker.engines.registry import build_engines
from worker.ports import Engine, Services
from worker.settings import load

SLOTS = {"aria2": 16, "aria2-2": 8, "qbittorrent": 8}
#: Engines that can take each other's jobs, after so long without an answer.
PAIR, FAILOVER_S = ("aria2", "aria2-2"), 10.0
#: What restarts a dead process waits so long.
RESTART_S = (0.1, 2.0)
#: What starts of the tier `free` go through; so slow that they have to wait.
RATE, BURST = 1.2, 4
LIMITS = f"""
[global]
running = 28

[tiers.free]
rate = {RATE}
burst = {BURST}
running = 5
bandwidth = "8 MiB/s"

[tiers.premium]
rate = 20
burst = 20
weight = 2
bandwidth = "16 MiB/s"

[users.user-9]
bandwidth = "4 MiB/s"
"""
CELERY = ("celery", "-A", "worker")
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "prefork": (*CELERY, "worker", "-n", "prefork@chaos", "-P", "prefork", "-c", "2", "--without-gossip", "--without-mingle"),
    "threads": (*CELERY, "worker", "-n", "threads@chaos", "-P", "threads", "-c", "4", "--without-gossip", "--without-mingle"),
    "supervisor-1": ("worker.cli", "supervise"),
    "supervisor-2": ("worker.cli", "supervise"),
    "beat": (*CELERY, "beat"),
    "api": ("worker.cli", "api"),
}


class Member(Protocol):
    """A process that may be killed."""

    @property
    def pid(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    def restart(self) -> None:
        """Start it again under the same name and address."""


class _Program:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._name = fleet, name
        self.restart()

    def restart(self) -> None:
        directory = self._fleet.directory
        self.program = Program(self._fleet.environment(self._name), directory / f"{self._name}.log", *PROGRAMS[self._name])

    @property
    def pid(self) -> int:
        return self.program.pid

    @property
    def alive(self) -> bool:
        return self.program.ended() is None


class _Server:
    def __init__(self, server: Server) -> None:
        self.server = server

    def restart(self) -> None:
        self.server.restart()

    @property
    def pid(self) -> int:
        return self.server.process.pid

    @property
    def alive(self) -> bool:
        return self.server.alive


class _Mongo:
    def __init__(self, server: MongoServer) -> None:
        self.server = server

    def restart(self) -> None:
        self.server.start()

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def alive(self) -> bool:
        return self.server.alive


class Fleet:
    """A context manager; use it from one thread, for what it starts ends with the thread that started it.

    Args:
        directory: of everything that is written.
        store: `sqlite` or `mongodb`.

    Attributes:
        members: what may be killed, by name.
        proxies: what may be cut, by name.
        alone: engines that nobody looks after but `tests.chaos.alone`; they die when their twins do.
    """

    def __init__(self, directory: Path, store: str, chance: random.Random) -> None:
        self.directory = directory
        self.downloads = directory / "downloads"
        self.origin = Origin()
        self.receiver = Receiver("chaos")
        self.members: dict[str, Member] = {}
        self.proxies: dict[str, TcpProxy] = {}
        self.alone: dict[str, _Server] = {}
        self._store = store
        self._chance = chance
        self._held = ExitStack()
        self._due: dict[str, float] = {}
        self._frozen: dict[str, float] = {}
        self._holes: dict[str, float] = {}
        self._ports = {name: free_port() for name in ("api", "supervisor-1", "supervisor-2")}

    def __enter__(self) -> Fleet:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members.values():
            if member.alive:
                os.kill(member.pid, signal.SIGCONT)
                os.kill(member.pid, signal.SIGKILL)
        self._held.close()

    def _start(self) -> None:
        self.downloads.mkdir(parents=True)
        (self.directory / "tiers.toml").write_text(LIMITS)
        self._held.enter_context(self.origin)
        self._held.enter_context(self.receiver)
        self._add_server("redis", start_valkey(redis_program(), self.directory))
        for prefix in ("", "alone-"):
            directory = self.directory / f"{prefix}engines"
            directory.mkdir()
            downloads = self.directory / f"{prefix}downloads"
            downloads.mkdir(exist_ok=True)
            servers = {
                "aria2": start_aria2c(aria2c_program(), directory, downloads, slots=sum(SLOTS[name] for name in PAIR)),
                "qbittorrent": start_qbittorrent(qbittorrent_program(), directory, downloads, slots=SLOTS["qbittorrent"], discovery=False),
            }
            for name, server in servers.items():
                if prefix:
                    self._held.callback(server.stop)
                    self.alone[name] = _Server(server)
                else:
                    self._add_server(name, server)
        (second := self.directory / "engines-2").mkdir()
        self._add_server(PAIR[1], start_aria2c(aria2c_program(), second, self.downloads, slots=SLOTS[PAIR[1]]))
        if self._store == "mongodb":
            mongo = MongoServer(self.directory / "mongodb")
            self._held.callback(mongo.kill)
            self.members["mongodb"] = _Mongo(mongo)
            self._proxy("mongodb", mongo.address)
        self.services: Services = wiring.build(load(**self._settings(direct=True)))
        self._held.callback(self.services.close)
        for name in PROGRAMS:
            self.members[name] = _Program(self, name)

    def _add_server(self, name: str, server: Server) -> None:
        self._held.callback(server.stop)
        self.members[name] = _Server(server)
        self._proxy(name, urlsplit(server.url).netloc.rpartition("@")[2])

    def _proxy(self, name: str, address: str) -> None:
        own = f"127.0.0.2:{address.rpartition(':')[2]}" if name == "qbittorrent" else "127.0.0.1:0"
        self.proxies[name] = self._held.enter_context(TcpProxy(address, own))

    # ---- addresses ----

    @property
    def api(self) -> str:
        """The API."""
        return f"http://127.0.0.1:{self._ports['api']}"

    @property
    def redis_url(self) -> str:
        """Redis, through its proxy."""
        return self._address("redis", direct=False)

    def _address(self, name: str, *, direct: bool) -> str:
        member = self.members[name]
        assert isinstance(member, _Server)
        parts = urlsplit(member.server.url)
        if direct:
            return member.server.url
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{self.proxies[name].address}"))

    def _settings(self, *, direct: bool) -> dict[str, str]:
        engines = [f"{self._address(name, direct=direct)}?name={name}&slots={slots}&dir={self.downloads}" for name, slots in SLOTS.items()]
        settings = {
            "data_dir": str(self.directory),
            "redis_url": self._address("redis", direct=direct),
            "engines": ",".join(engines),
            "allow_networks": "127.0.0.0/8",
            "failover_s": f"{FAILOVER_S:g}",
            "tiers": str(self.directory / "tiers.toml"),
            "webhooks": self.receiver.url,
            "webhook_secret": "chaos",
            "log_level": "info",
        }
        if isinstance(mongo := self.members.get("mongodb"), _Mongo):
            settings["store_url"] = f"mongodb://{mongo.server.address if direct else self.proxies['mongodb'].address}/chaos"
        return settings

    def environment(self, name: str) -> dict[str, str]:
        """What a program finds in its environment: every server behind its proxy."""
        environment = {f"HAUL_{key.upper()}": value for key, value in self._settings(direct=False).items()}
        port = "HAUL_API_PORT" if name == "api" else "HAUL_METRICS_PORT"
        if name in self._ports:
            environment[port] = str(self._ports[name])
        return environment

    def left(self, kept: Container[str]) -> int:
        """Items of the engines, and work directories but those of some transfers; when no job is open, they are nobody's."""
        items = sum(len(engine.poll().items) for engine in self.services.engines.values())
        return items + sum(path.name not in kept for path in self.downloads.glob(".haul/*"))

    def engines_alone(self) -> dict[str, Engine]:
        """Adapters for the engines that nobody else uses."""
        downloads = self.directory / "alone-downloads"
        addresses = [f"{member.server.url}?name={name}&slots={SLOTS[name]}&dir={downloads}" for name, member in self.alone.items()]
        return build_engines(addresses, directory=downloads, slots=1)

    def engines_themselves(self) -> list[EngineItself]:
        """The engines, asked past our adapters."""
        servers = {name: member.server for name in SLOTS if isinstance(member := self.members[name], _Server)}
        return [Aria2(server) if name in PAIR else Qbittorrent(server) for name, server in servers.items()]

    # ---- life and death ----

    def kill(self, name: str, number: int = signal.SIGKILL) -> bool:
        """Signal a member, and its twin if it is an engine; false when the member is dead."""
        hit = self.members[name].alive
        for member in self._twins(name):
            if member.alive:
                os.kill(member.pid, number)
        return hit

    def away(self, name: str, seconds: float) -> bool:
        """Kill a member and its twin; they, or those that are dead already, are started again so much later."""
        self.kill(name)
        for place, member in enumerate(self._twins(name)):
            while member.alive:
                time.sleep(0.01)
            self._due[f"{name}/{place}"] = time.monotonic() + seconds
        return True

    def freeze(self, name: str, seconds: float) -> bool:
        """Stop a member and let it go on later; false when it is dead."""
        self._frozen[name] = time.monotonic() + seconds
        return self.kill(name, signal.SIGSTOP)

    def swallow(self, name: str, seconds: float) -> bool:
        """Let everything said to a server vanish for a while; false when nobody had a connection to it."""
        known = self.proxies[name].connections > 0
        self.proxies[name].black_hole()
        self._holes[name] = time.monotonic() + seconds
        return known

    def running(self, name: str) -> bool:
        """True when it is alive and not frozen."""
        return self.members[name].alive and name not in self._frozen

    def keep(self) -> None:
        """Start again what died a moment ago, wake what was frozen long enough; call it often."""
        now = time.monotonic()
        for name, until in list(self._frozen.items()):
            if now >= until:
                self._wake(name)
        for name, until in list(self._holes.items()):
            if now >= until:
                del self._holes[name]
                self.proxies[name].heal()
        for name in self.members:
            for place, member in enumerate(self._twins(name)):
                due = f"{name}/{place}"
                if member.alive:
                    self._due.pop(due, None)
                elif now >= self._due.setdefault(due, now + self._chance.uniform(*RESTART_S)):
                    member.restart()

    def heal(self) -> None:
        """End every fault that lasts; what is away comes back in its time."""
        for name in list(self._frozen):
            self._wake(name)
        for name in self._holes:
            self.proxies[name].heal()
        self._holes.clear()

    def _wake(self, name: str) -> None:
        del self._frozen[name]
        self.kill(name, signal.SIGCONT)

    def _twins(self, name: str) -> list[Member]:
        return [self.members[name], *([self.alone[name]] if name in self.alone else [])]
