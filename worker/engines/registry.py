"""Addresses of engines, as they stand in HAUL_ENGINES, to engines.

A new engine is a module of its own and a line in `FACTORIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from worker.engines.aria2 import Aria2Engine
from worker.limits import RPC_TIMEOUT_S
from worker.ports import Engine
from worker.settings import SettingsError

VARIABLE = "HAUL_ENGINES"
OPTIONS = frozenset({"name", "slots", "dir"})
SLOTS_MAX = 10_000
NAME_CHARACTERS_MAX = 64
#: Schemes of engines that are known and that this version cannot drive.
PLANNED: Mapping[str, str] = {"qbittorrent+http": "qBittorrent", "qbittorrent+https": "qBittorrent"}


@dataclass(frozen=True, slots=True)
class Address:
    """One engine's address, taken apart.

    Attributes:
        url: `http(s)://host:port/path`, without the secret.
        directory: the volume as this process sees it.
    """

    name: str
    url: str
    user: str
    secret: str
    directory: str
    slots: int


def _aria2(address: Address) -> Engine:
    return Aria2Engine(address.name, address.url, address.secret, address.directory, address.slots, RPC_TIMEOUT_S)


#: Scheme -> (the default name, how to build the engine).
FACTORIES: Mapping[str, tuple[str, Callable[[Address], Engine]]] = {
    "aria2+http": ("aria2", _aria2),
    "aria2+https": ("aria2", _aria2),
}


def build_engines(addresses: Sequence[str], *, directory: Path, slots: int) -> dict[str, Engine]:
    """The engines by name, in the order of their addresses; nothing is connected yet.

    Args:
        addresses: `aria2+http://:secret@host:6800/jsonrpc?name=&slots=&dir=`. Without a name the first aria2 is `aria2`,
            the next `aria2-2`, and so on.
        directory: the volume of engines without `dir`.
        slots: of engines without `slots`.

    Raises:
        SettingsError: an address cannot be used; names the place in the list and the fix, never the secret.
    """
    engines: dict[str, Engine] = {}
    for place, text in enumerate(addresses, 1):
        scheme = text.partition("://")[0].lower()
        if scheme in PLANNED:
            raise _wrong(place, f"this version has no {PLANNED[scheme]} engine yet", "use an address that begins with aria2+http://")
        if scheme not in FACTORIES or "://" not in text:
            raise _wrong(place, "the scheme is unknown", f"begin with one of {', '.join(f'{known}://' for known in FACTORIES)}")
        default, build = FACTORIES[scheme]
        address = _parsed(place, text, _free_name(default, engines), directory, slots)
        if address.name in engines:
            raise _wrong(place, f"the name {address.name} is taken", "give each engine a name of its own with ?name=")
        engines[address.name] = build(address)
    return engines


def _free_name(default: str, taken: dict[str, Engine]) -> str:
    names = [default, *(f"{default}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _parsed(place: int, text: str, name: str, directory: Path, slots: int) -> Address:
    # Errors of the standard library quote what they could not read, and that may hold the secret.
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong(place, "is not a valid address", "write aria2+http://:secret@host:6800/jsonrpc") from None
    if not host:
        raise _wrong(place, "has no host", "write aria2+http://:secret@host:6800/jsonrpc")
    options = dict(pairs)
    if unknown := sorted(set(options) - OPTIONS):
        raise _wrong(place, f"there is no option {unknown[0]}", f"known options: {', '.join(sorted(OPTIONS))}")
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme.rpartition('+')[2]}://{shown}:{port or 6800}{parts.path or '/jsonrpc'}"
    return Address(
        name=_name(place, options.get("name") or name),
        url=url,
        user=unquote(parts.username or ""),
        secret=unquote(parts.password or ""),
        directory=str(_volume(place, options["dir"]) if options.get("dir") else directory),
        slots=_slots(place, options["slots"]) if options.get("slots") else slots,
    )


def _name(place: int, name: str) -> str:
    """Part of paths and of keys, so only letters, digits, dash and underscore."""
    if len(name) > NAME_CHARACTERS_MAX or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise _wrong(place, "the name is not usable", "letters, digits, dash and underscore, at most 64")
    return name


def _volume(place: int, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts:
        raise _wrong(
            place, "dir is not an absolute path", "give the directory that this machine and the engine share, for example /downloads"
        )
    return path


def _slots(place: int, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= SLOTS_MAX:
        raise _wrong(place, "slots is out of range", f"a whole number from 1 to {SLOTS_MAX}")
    return int(text)


def _wrong(place: int, what: str, fix: str) -> SettingsError:
    return SettingsError(f"{VARIABLE}: engine {place}: {what}: {fix}")
