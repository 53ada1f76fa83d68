"""The embedded stack of one machine: its servers, started, watched, and stopped in order."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

from worker import logs
from worker.cli.lock import held
from worker.cli.servers import Server, find_aria2c, find_valkey, free_port, start_aria2c, start_valkey, stop_together
from worker.cli.servers.qbittorrent import find_qbittorrent, start_qbittorrent, url_of
from worker.cli.session import forget_after_fault
from worker.settings import EMBEDDED, Settings
from worker.stack import Stack, stack_file

#: In the order in which others see them.
ENGINES = ("aria2", "qbittorrent")
#: What HAUL_QBITTORRENT says when aria2 is to be the only engine though qBittorrent is installed.
OFF = "off"
WATCH_EVERY_S = 0.5
#: Behind the others: by then the first download of a `haul get` is on its way.
LATE_S = 1.0
RESTART_BACKOFF_MAX_S = 30.0
#: A server that lived this long starts with a clean record when it dies.
STEADY_S = 60.0


@dataclass(slots=True)
class _Kept:
    """A server that is kept running, and its recent life in monotonic seconds.

    Attributes:
        begin: starts it for the first time; `server` is None before.
        url: its address.
        again_at: set while it does not run, which it shall from then on.
    """

    name: str
    begin: Callable[[], Server]
    url: str = ""
    server: Server | None = None
    started_at: float = field(default_factory=time.monotonic)
    deaths: int = 0
    again_at: float | None = None

    def start(self) -> Server:
        """Start it under its address. Raises OSError when it cannot be, for want of a process or of its directory."""
        self.started_at = time.monotonic()
        if self.server is None:
            self.server = self.begin()
            self.url = self.server.url
        else:
            self.server.restart()
        self.again_at = None
        return self.server

    def ended(self, now: float) -> float:
        """Count an end; seconds until it may start again."""
        self.deaths = 1 if now - self.started_at > STEADY_S else self.deaths + 1
        pause = 0.0 if self.deaths == 1 else min(RESTART_BACKOFF_MAX_S, 2.0 ** (self.deaths - 2))
        self.again_at = now + pause
        return pause


def qbittorrent_of(settings: Settings) -> Path | None:
    """The qBittorrent that an embedded stack of these settings has beside aria2, or None.

    Raises:
        ServerMissing: the setting names no program.
    """
    return None if settings.qbittorrent == OFF else find_qbittorrent(settings.qbittorrent)


class EmbeddedStack:
    """A context manager around the servers that the settings call `embedded`; they start side by side.

    Valkey and aria2c are waited for. qBittorrent starts a little later, for it would take time from the first download of
    a `haul get`; whoever looks after it finds it once it answers. A server that dies is started again under the same
    address, at once and then with growing pauses up to 30 s. At the end the engines stop first, which save what they know
    of their downloads, then Valkey.

    One thread starts, watches and stops them, because a server ends with the thread that started it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = logs.get("haul.stack")
        self._held = ExitStack()
        self._lock_fd = -1
        self._kept: list[_Kept] = []
        self._api_url: str | None = None
        self._stack: Stack | None = None
        self._error: BaseException | None = None
        self._publishing = threading.Lock()
        self._retired = False
        self._settled = threading.Event()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="servers", daemon=True)

    def __enter__(self) -> EmbeddedStack:
        """Hold the data directory and begin to start the servers. Raises StackRunning when another process has it."""
        self._lock_fd = self._held.enter_context(held(self._settings.data_dir))
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._keeper.join()
        self._held.close()

    def connected(self) -> Settings:
        """The settings with the servers' addresses, once Valkey and aria2c answer and others can find them.

        Raises:
            ServerMissing, ServerFailed: a server could not be started; none is left running.
        """
        self._settled.wait()
        if self._error:
            raise self._error
        return self._settings.connected(self._stack)

    def announce(self, api_url: str) -> None:
        """Tell others where the API is."""
        self._api_url = api_url
        self._publish()

    def retire(self) -> None:
        """Show the stack to nobody new; it is about to drain."""
        with self._publishing:
            self._retired = True
            stack_file(self._settings.data_dir).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Tell the servers to stop and do not wait; for a process that is about to end the hard way."""
        self._stop.set()
        for server in self._servers():
            if server.alive:
                server.process.terminate()

    def _servers(self, names: Container[str] = ("valkey", *ENGINES)) -> list[Server]:
        return [kept.server for kept in self._kept if kept.server is not None and kept.name in names]

    # ---- in the keeper's thread ----

    def _keep(self) -> None:
        try:
            self._start()
            self._publish()
            self._settled.set()
            while not self._stop.wait(WATCH_EVERY_S):
                self._revive()
        except BaseException as error:  # raised again in the thread that waits in `connected`
            self._error = error
        finally:
            stop_together(self._servers(ENGINES))
            stop_together(self._servers())
            self._settled.set()

    def _start(self) -> None:
        settings, engines = self._settings, EMBEDDED in self._settings.engine_addresses
        valkey = find_valkey(settings.valkey) if settings.redis_address == EMBEDDED else None
        aria2c = find_aria2c(settings.aria2c) if engines else None
        qbittorrent = qbittorrent_of(settings) if engines else None
        if valkey:
            self._kept.append(_Kept("valkey", partial(self._begin, "valkey", start_valkey, valkey)))
        if aria2c:
            self._downloads.mkdir(exist_ok=True)
            self._kept.append(_Kept("aria2", partial(self._begin_engine, "aria2", start_aria2c, aria2c)))
        started = [kept.start() for kept in self._kept]
        for server in started:
            server.await_ready()
            self._log.info("server runs", server=server.name, pid=server.process.pid)
        if qbittorrent:
            port, secret = free_port(), secrets.token_urlsafe(24)
            begin = partial(self._begin_engine, "qbittorrent", start_qbittorrent, qbittorrent, port=port, secret=secret)
            self._kept.append(_Kept("qbittorrent", begin, url_of(port, secret), again_at=time.monotonic() + LATE_S))

    def _begin_engine(self, name: str, start: Callable[..., Server], binary: Path, **options: object) -> Server:
        return self._begin(name, start, binary, downloads=self._downloads, slots=self._settings.slots, **options)

    def _begin(self, name: str, start: Callable[..., Server], binary: Path, **options: object) -> Server:
        directory = self._settings.data_dir / name
        directory.mkdir(mode=0o700, exist_ok=True)  # for its owner alone: passwords are in it
        return start(binary, directory, keep_fds=(self._lock_fd,), wait=False, **options)

    @property
    def _downloads(self) -> Path:
        return self._settings.data_dir / "downloads"

    def _publish(self) -> None:
        with self._publishing:
            urls = {kept.name: kept.url for kept in self._kept}
            options = f"slots={self._settings.slots}&dir={quote(str(self._downloads))}"
            self._stack = Stack(
                pid=os.getpid(),
                redis_url=urls.get("valkey", ""),
                engines=tuple(f"{urls[name]}?name={name}&{options}" for name in ENGINES if name in urls),
                api_url=self._api_url,
                children={server.name: server.process.pid for server in self._servers()},
                webhooks=self._settings.webhook_addresses,
            )
            if not self._retired:
                self._stack.save(self._settings.data_dir)

    def _revive(self) -> None:
        now = time.monotonic()
        for kept in self._kept:
            if kept.again_at is None and kept.server is not None and not kept.server.alive:
                pause, code = kept.ended(now), kept.server.process.returncode
                fault = forget_after_fault(self._settings.data_dir / kept.name, code)
                self._log.warning("server died", server=kept.name, exit=code, of_a_fault=fault, starts_again_in_s=pause)
            if kept.again_at is not None and now >= kept.again_at and not (self._retired and kept.server is None):
                self._start_one(kept, now)

    def _start_one(self, kept: _Kept, now: float) -> None:
        try:
            server = kept.start()
        except OSError as error:  # no memory or no process to be had, or its directory cannot be written
            self._log.warning("server cannot be started", server=kept.name, error=str(error), tried_again_in_s=kept.ended(now))
            return
        self._publish()
        self._log.info("server runs", server=server.name, pid=server.process.pid)
