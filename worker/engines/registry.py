"""Addresses of engines, as they stand in HAUL_ENGINES, to engines.

A new engine is a module of its own and an entry of `PROGRAMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from worker.engines.aria2.engine import Aria2Engine
from worker.engines.qbittorrent.engine import QbittorrentEngine
from worker.limits import RPC_TIMEOUT_S
from worker.ports import Engine
from worker.settings import SettingsError

VARIABLE = "HAUL_ENGINES"
OPTIONS = frozenset({"name", "slots", "dir", "weight"})
WEIGHT_MAX = 1_000
SLOTS_MAX = 10_000
NAME_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Address:
    """One engine's address, taken apart.

    Attributes:
        program: of `PROGRAMS`.
        url: `http(s)://host:port/path`, without the secret.
        directory: the volume as this process sees it.
        connections: of one download to one host; None leaves it to the engine.
    """

    name: str
    program: str
    url: str
    user: str
    secret: str
    directory: str
    slots: int
    weight: int
    connections: int | None = None


def _aria2(address: Address) -> Engine:
    engine = Aria2Engine(address.name, address.url, address.secret, address.directory, address.slots, RPC_TIMEOUT_S, address.weight)
    engine.connections = address.connections
    return engine


def _qbittorrent(address: Address) -> Engine:
    return QbittorrentEngine(
        address.name, address.url, address.user, address.secret, address.directory, address.slots, RPC_TIMEOUT_S, address.weight
    )


@dataclass(frozen=True, slots=True)
class Program:
    """What an address of a program needs to be complete.

    Attributes:
        port, path: where it listens unless it is told otherwise.
        example: an address, for messages.
    """

    port: int
    path: str
    example: str
    build: Callable[[Address], Engine]


#: By what their addresses begin with, which is the name of an engine without one, too.
PROGRAMS: Mapping[str, Program] = {
    "aria2": Program(6800, "/jsonrpc", "aria2+http://:secret@host:6800/jsonrpc", _aria2),
    "qbittorrent": Program(8080, "", "qbittorrent+http://user:password@host:8080", _qbittorrent),
}
#: Scheme -> program.
SCHEMES: Mapping[str, str] = {f"{name}+{transport}": name for name in PROGRAMS for transport in ("http", "https")}


def build_engines(addresses: Sequence[str], *, directory: Path, slots: int, connections: int | None = None) -> dict[str, Engine]:
    """The engines by name, in the order of their addresses; nothing is connected yet.

    Args:
        addresses: `aria2+http://:secret@host:6800/jsonrpc` or `qbittorrent+http://user:password@host:8080`, each with
            `?name=&slots=&dir=&weight=` or less. Without a name the first aria2 is `aria2`, the next `aria2-2`, and so on.
        directory: the volume of engines without `dir`.
        slots: of engines without `slots`.
        connections: of one download to one host; None leaves it to the engine.

    Raises:
        SettingsError: an address cannot be used; names the place in the list and the fix, never the secret.
    """
    written = [(f"{VARIABLE}: engine {number}", text) for number, text in enumerate(addresses, 1)]
    found = read_addresses(written, directory=directory, slots=slots, connections=connections)
    return {name: connect(address) for name, address in found.items()}


def connect(address: Address) -> Engine:
    """The engine at an address; nothing is asked of it yet."""
    return PROGRAMS[address.program].build(address)


def read_addresses(
    written: Sequence[tuple[str, str]], *, directory: Path, slots: int, connections: int | None = None, lasting: bool = False
) -> dict[str, Address]:
    """The addresses by the names of their engines, as `build_engines`.

    Args:
        written: each with the place where it stands, for messages.
        lasting: a name must not hang on its place, for addresses before it may go.
    """
    engines: dict[str, Address] = {}
    for place, text in written:
        scheme = text.partition("://")[0].lower()
        if scheme not in SCHEMES or "://" not in text:
            raise _wrong(place, "the scheme is unknown", f"begin with one of {', '.join(f'{known}://' for known in SCHEMES)}")
        name = SCHEMES[scheme]
        address = replace(_parsed(place, text, name, _free_name(name, engines), directory, slots), connections=connections)
        if lasting and address.name not in (name, _given_name(text)):
            raise _wrong(place, f"there is another {name} without a name", "give each engine a name of its own with ?name=")
        if address.name in engines:
            raise _wrong(place, f"the name {address.name} is taken", "give each engine a name of its own with ?name=")
        engines[address.name] = address
    return engines


def _given_name(text: str) -> str | None:
    return dict(parse_qsl(urlsplit(text).query)).get("name")


def _free_name(default: str, taken: Mapping[str, object]) -> str:
    names = [default, *(f"{default}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _parsed(place: str, text: str, kind: str, name: str, directory: Path, slots: int) -> Address:
    program = PROGRAMS[kind]
    # Errors of the standard library quote what they could not read, and that may hold the secret.
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong(place, "is not a valid address", f"write {program.example}") from None
    if not host:
        raise _wrong(place, "has no host", f"write {program.example}")
    options = dict(pairs)
    if unknown := sorted(set(options) - OPTIONS):
        raise _wrong(place, f"there is no option {unknown[0]}", f"known options: {', '.join(sorted(OPTIONS))}")
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme.rpartition('+')[2]}://{shown}:{port or program.port}{parts.path.rstrip('/') or program.path}"
    return Address(
        name=_name(place, options.get("name") or name),
        program=kind,
        url=url,
        user=unquote(parts.username or ""),
        secret=unquote(parts.password or ""),
        directory=str(_volume(place, options["dir"]) if options.get("dir") else directory),
        slots=_whole(place, "slots", options.get("slots"), slots, SLOTS_MAX),
        weight=_whole(place, "weight", options.get("weight"), 1, WEIGHT_MAX),
    )


def _name(place: str, name: str) -> str:
    """Part of paths and of keys, so only letters, digits, dash and underscore."""
    if len(name) > NAME_CHARACTERS_MAX or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise _wrong(place, "the name is not usable", "letters, digits, dash and underscore, at most 64")
    return name


def _volume(place: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts:
        raise _wrong(
            place, "dir is not an absolute path", "give the directory that this machine and the engine share, for example /downloads"
        )
    return path


def _whole(place: str, option: str, text: str | None, default: int, most: int) -> int:
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise _wrong(place, f"{option} is out of range", f"a whole number from 1 to {most}")
    return int(text)


def _wrong(place: str, what: str, fix: str) -> SettingsError:
    return SettingsError(f"{place}: {what}: {fix}")
