"""Whether something outside of Haul keeps the engines out of private networks: tried, by asking each to reach an address of ours."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from types import TracebackType
from urllib.parse import urlsplit

from worker.admission import egress
from worker.jobs.directories import delete_work_directory, work_directory
from worker.jobs.errors import Transient
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause
from worker.notation.engines import read_lines
from worker.ports import Engine, ItemStatus, Order, Services
from worker.settings import Settings, SettingsError

#: A web engine tells that it failed, at the latest after its own three tries; one of torrents tells nothing, and asks a tracker at once.
PROOF_S, SILENT_S = 40.0, 10.0
LOOK_S = 0.2
#: At the start engines are waited for.
START_S = 60.0
REQUEST_BYTES, CONNECTIONS_MAX = 4096, 16

#: What `haul health` says of each mode.
WORDS: Mapping[str, str] = {
    "checked": (
        "checked: jobs are refused for private addresses, names and redirects that Haul sees. Left: engines resolve and follow again by"
        " themselves, and torrents speak to whom trackers and the DHT name. deploy/egress.sh and HAUL_EGRESS=guarded close that"
    ),
    "guarded": "guarded: the kernel or a proxy is said to keep the engines out of private networks; haul health --deep tries it",
    "strict": (
        "strict: an engine is given work once it was seen to be kept out of private networks, at the start or when it is added;"
        " haul health --deep tries it again"
    ),
}


class Canary:
    """A server on our side of the line to the engines, at private addresses; a context manager.

    Attributes:
        hosts: at which addresses an engine would find it. None when the way to one of the engines has no such address: what
            another engine is refused, or a loopback that is not ours, would prove nothing of that one.
        reached: the addresses at which somebody asked for its secret path.
    """

    def __init__(self, settings: Settings) -> None:
        found = [_ours(address) for address in _addresses(settings)]
        private = {host for host in found if host is not None and egress.refused_kind(ip_address(host), settings.allow_networks)}
        self.hosts = sorted(private) if private.issuperset(found) else []
        self.reached: set[str] = set()
        self._path = f"announce/{secrets.token_hex(8)}"
        self._listener = socket.create_server(("", 0))

    def __enter__(self) -> Canary:
        threading.Thread(target=self._serve, name="canary", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def uri(self, host: str) -> str:
        """Its address for an engine."""
        return f"http://{host}:{self._listener.getsockname()[1]}/{self._path}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(1.0)
                    if self._path.encode() in connection.recv(REQUEST_BYTES):
                        self.reached.add(str(connection.getsockname()[0]))
                        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def unproved(engine: Engine, settings: Settings) -> str | None:
    """Why it is not proved that an engine is kept out of private networks; None when it is.

    Takes up to 40 s where packets are dropped in silence; a second where they are refused.

    Raises:
        Transient: the engine does not answer.
    """
    with Canary(settings) as canary:
        if not canary.hosts:
            return "not each engine has a private address of this machine on its way here, so it cannot be tried from here"
        for host in canary.hosts:
            if why := _try(engine, canary, host):
                return why
    return None


class Proofs:
    """Which engines were proved by this process; one that is reached at another address since is another engine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._proved: dict[str, Engine] = {}

    def unproved(self, engine: Engine) -> str | None:
        """As the function of that name, for an engine that is not proved yet; None at once for one that is."""
        if self._proved.get(engine.name) is engine:
            return None
        why = unproved(engine, self._settings)
        if why is None:
            self._proved[engine.name] = engine
        return why


def require(services: Services, proofs: Proofs, wait_s: float = START_S) -> None:
    """Return once every engine is proved to be guarded; for the mode `strict`.

    Raises:
        SettingsError: one is not, or does not answer within the time.
    """
    ends = time.monotonic() + wait_s
    for name, engine in services.engines.items():
        while True:
            try:
                why = proofs.unproved(engine)
                break
            except Transient as error:
                why = str(error)
                if time.monotonic() >= ends:
                    break
                time.sleep(LOOK_S)
        if why:
            raise SettingsError(f"HAUL_EGRESS: strict, and engine {name} is not proved to be guarded: {why} (see deploy/egress.sh)")


def _try(engine: Engine, canary: Canary, host: str) -> str | None:
    transfer, web = f"canary-{secrets.token_hex(8)}", SourceKind.HTTP in engine.features.kinds
    magnet = f"magnet:?xt=urn:btih:{secrets.token_hex(20)}&tr={canary.uri(host)}"
    source = Source(SourceKind.HTTP, canary.uri(host)) if web else Source(SourceKind.MAGNET, magnet)
    directory = work_directory(engine.directory, transfer, engine.name)
    handle = engine.handle(transfer, 1)
    try:
        [fault] = engine.submit([Order(transfer, 1, source, directory)])
        if fault is not None:
            return f"it did not take the trial: {fault.detail}"
        return _outcome(engine, canary, handle, web=web)
    finally:
        with contextlib.suppress(Transient):
            engine.remove([handle])
        delete_work_directory(directory)


def _outcome(engine: Engine, canary: Canary, handle: str, *, web: bool) -> str | None:
    ends = time.monotonic() + (PROOF_S if web else SILENT_S)
    while time.monotonic() < ends:
        item = engine.poll().items.get(handle)
        if canary.reached:
            return f"it reached the private address {sorted(canary.reached)[0]} of this machine"
        if web and item is not None and item.fault is not None:
            return None if item.fault.cause is Cause.UNREACHABLE else f"its trial failed otherwise: {item.fault.detail}"
        if web and item is not None and item.status is ItemStatus.COMPLETE:
            return "it downloaded something in place of our answer"
        time.sleep(LOOK_S)
    return "its trial did not end in time" if web else None


def _addresses(settings: Settings) -> Sequence[str]:
    """Of the engines, from wherever they are named; one that cannot be read is one whose way is not known."""
    if settings.engines_file is None:
        return settings.engine_addresses
    try:
        return [address for _, address in read_lines(settings.engines_file.read_text(encoding="utf-8"))]
    except (OSError, UnicodeDecodeError):
        return [""]


def _ours(engine: str) -> str | None:
    """The address of this machine that an engine sees when we call it; None when there is none of IPv4."""
    try:
        parts = urlsplit(engine)
        if not parts.hostname:
            return None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname, parts.port or 80))
            return str(probe.getsockname()[0])
    except (OSError, ValueError):
        return None
