"""The embedded stack of one machine: its servers, started, watched, and stopped in order."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import quote

from worker import logs
from worker.cli.lock import held
from worker.cli.servers import Server, find_aria2c, find_valkey, start_aria2c, start_valkey
from worker.settings import EMBEDDED, Settings, Stack, stack_file

WATCH_EVERY_S = 0.5
RESTART_BACKOFF_MAX_S = 30.0
#: A server that lived this long starts with a clean record when it dies.
STEADY_S = 60.0


@dataclass(slots=True)
class _Record:
    """A server's recent life, in monotonic seconds; `again_at` is set while it is dead."""

    started_at: float = field(default_factory=time.monotonic)
    deaths: int = 0
    again_at: float | None = None

    def died(self, now: float) -> float:
        """Count a death; seconds until the server may start again."""
        self.deaths = 1 if now - self.started_at > STEADY_S else self.deaths + 1
        pause = 0.0 if self.deaths == 1 else min(RESTART_BACKOFF_MAX_S, 2.0 ** (self.deaths - 2))
        self.again_at = now + pause
        return pause


class EmbeddedStack:
    """A context manager around the servers that the settings call `embedded`; Valkey and aria2c start side by side.

    A server that dies is started again under the same address, at once and then with growing pauses up to 30 s.
    At the end aria2c stops first, which saves its session, then Valkey.

    One thread starts, watches and stops them, because a server ends with the thread that started it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = logs.get("haul.stack")
        self._held = ExitStack()
        self._lock_fd = -1
        self._servers: list[Server] = []
        self._records: dict[str, _Record] = {}
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
        """The settings with the servers' addresses, once all of them answer and others can find them.

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
        for server in self._servers:
            if server.alive:
                server.process.terminate()

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
            for server in reversed(self._servers):
                server.stop()
            self._settled.set()

    def _start(self) -> None:
        settings = self._settings
        valkey = find_valkey(settings.valkey) if settings.redis_address == EMBEDDED else None
        aria2c = find_aria2c(settings.aria2c) if EMBEDDED in settings.engine_addresses else None
        keep = (self._lock_fd,)
        if valkey:
            directory = settings.data_dir / "valkey"
            directory.mkdir(mode=0o700, exist_ok=True)
            self._servers.append(start_valkey(valkey, directory, keep_fds=keep, wait=False))
        if aria2c:
            directory, downloads = settings.data_dir / "aria2", settings.data_dir / "downloads"
            directory.mkdir(mode=0o700, exist_ok=True)
            downloads.mkdir(exist_ok=True)
            self._servers.append(start_aria2c(aria2c, directory, downloads, slots=settings.slots, keep_fds=keep, wait=False))
        for server in self._servers:
            server.await_ready()
            self._records[server.name] = _Record()
            self._log.info("server runs", server=server.name, pid=server.process.pid)

    def _publish(self) -> None:
        with self._publishing:
            by_name = {server.name: server for server in self._servers}
            downloads = quote(str(self._settings.data_dir / "downloads"))
            self._stack = Stack(
                pid=os.getpid(),
                redis_url=by_name["valkey"].url if "valkey" in by_name else "",
                engines=(f"{by_name['aria2'].url}?name=aria2&slots={self._settings.slots}&dir={downloads}",) if "aria2" in by_name else (),
                api_url=self._api_url,
                children={server.name: server.process.pid for server in self._servers},
            )
            if not self._retired:
                self._stack.save(self._settings.data_dir)

    def _revive(self) -> None:
        now = time.monotonic()
        for server in (server for server in self._servers if not server.alive):
            record = self._records[server.name]
            if record.again_at is None:
                pause = record.died(now)
                self._log.warning("server died", server=server.name, exit=server.process.returncode, starts_again_in_s=pause)
            if record.again_at is not None and now >= record.again_at:
                self._restart(server, record)

    def _restart(self, server: Server, record: _Record) -> None:
        try:
            server.restart()
        except OSError as error:  # no memory or no process to be had; the next look tries again
            self._log.warning("server cannot be started", server=server.name, error=str(error))
            return
        self._records[server.name] = _Record(deaths=record.deaths)
        self._publish()
        self._log.info("server runs again", server=server.name, pid=server.process.pid)
