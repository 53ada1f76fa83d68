"""Addresses that a magnet link, a `.torrent` file or a metalink names beside its content: trackers, web seeds, peers, mirrors; pure.

Keys: BEP 3, 5, 9, 12, 17 and 19, and the magnet URI project's; a number may follow a key of a magnet link (`tr.1`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from worker.jobs.bencode import NotBencode, decode
from worker.jobs.errors import Rejected
from worker.jobs.metalinks import read_metalink

#: Of a magnet link: trackers, web seeds, acceptable and exact sources, metalinks.
ADDRESSES = frozenset({"tr", "ws", "as", "xs", "mt"})
#: `host:port` of a peer, and of a node of the DHT.
PEERS = frozenset({"x.pe", "dht"})
#: Different addresses that are looked at; torrents with more trackers are no torrents that somebody uses.
LINKS_MAX = 1_000


def of_magnet(uri: str) -> list[str]:
    """Every address that a magnet link names, each with a scheme. Raises Rejected when there are too many."""
    return _bounded((_key(key), value) for key, value in parse_qsl(uri.partition("?")[2].partition("#")[0]))


def of_torrent(document: bytes) -> list[str]:
    """Every address that a `.torrent` file names outside of its `info`, each with a scheme. Raises Rejected."""
    try:
        values, _ = decode(document)
    except NotBencode as error:
        raise Rejected("torrent", f"is {error}", fix="send the bytes of a .torrent file") from None
    if not isinstance(values, dict):
        return []
    named = [("tr", text) for key in (b"announce", b"announce-list", b"url-list", b"httpseeds") for text in _texts(values.get(key))]
    return _bounded([*named, *(("dht", f"{host}:0") for host in _nodes(values.get(b"nodes")))])


def of_metalink(document: bytes) -> list[str]:
    """Every address that a metalink names. Raises Rejected when it cannot be read (`read_metalink`) or names too many."""
    return _bounded(("tr", uri) for uri in read_metalink(document).mirrors)


def magnet_without(uri: str, unwanted: Callable[[str], bool]) -> str:
    """The magnet link without the addresses that are unwanted; all else exactly as it was."""
    head, mark, query = uri.partition("?")
    kept = [part for part in query.split("&") if not any(map(unwanted, _of_part(part)))]
    return head + mark + "&".join(kept)


def torrent_without(document: bytes, unwanted: Callable[[str], bool]) -> bytes:
    """The `.torrent` file without the addresses that are unwanted; its `info`, and so its infohash, is what it was."""
    values, entries = decode(document)
    kept = dict(entries)
    for key in (b"announce", b"announce-list", b"url-list", b"httpseeds", b"nodes"):
        if key in values:
            if left := (_kept_nodes if key == b"nodes" else _kept)(values[key], unwanted):
                kept[key] = _bencoded(left)
            else:
                del kept[key]
    return b"d" + b"".join(_bencoded(key) + kept[key] for key in sorted(kept)) + b"e"


def _kept(value: Any, unwanted: Callable[[str], bool]) -> Any:
    """What is left of a text, or of a list of such; nothing, or something empty, when nothing is."""
    if isinstance(value, bytes):
        return None if unwanted(value.decode(errors="replace").strip()) else value
    return [left for item in value if (left := _kept(item, unwanted))] if isinstance(value, list) else None


def _kept_nodes(value: Any, unwanted: Callable[[str], bool]) -> Any:
    kept = []
    for node in value if isinstance(value, list) else ():
        host, port = node if isinstance(node, list) and len(node) == 2 else (None, None)
        if isinstance(host, bytes) and isinstance(port, int) and not any(map(unwanted, _of_node(host))):
            kept.append([host, port])
    return kept


def _of_node(host: bytes) -> list[str]:
    return _addresses([("dht", f"{host.decode(errors='replace').strip()}:0")])


def _bencoded(value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    return b"l" + b"".join(map(_bencoded, value)) + b"e"


def _key(key: str) -> str:
    """`tr` for `TR.1`."""
    name = key.strip().lower()
    return name if name in PEERS else name.partition(".")[0]


def _of_part(part: str) -> list[str]:
    key, _, value = part.partition("=")
    return _addresses([(_key(unquote_plus(key)), unquote_plus(value))])


def _bounded(named: Any) -> list[str]:
    found = list(dict.fromkeys(_addresses(named)))
    if len(found) > LINKS_MAX:
        raise Rejected("uri", f"names more than {LINKS_MAX} trackers and mirrors", fix="leave most of them out")
    return found


def _addresses(named: Any) -> list[str]:
    found = []
    for key, value in named:
        if key in ADDRESSES and "://" in value:
            found.append(value.strip())
        elif key in PEERS:
            found.append(f"{key}://{_authority(value)}")
    return found


def _authority(pair: str) -> str:
    """`host:port` with brackets about an IPv6 address, which BEP 9 and some programs leave out."""
    host, _, port = pair.strip().rpartition(":")
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else pair.strip()


def _texts(value: Any) -> Iterator[str]:
    """The texts of a value that is one, or a list of such, or a list of lists."""
    left: list[Any] = [value]
    while left:
        item = left.pop()
        if isinstance(item, bytes):
            yield item.decode(errors="replace").strip()
        elif isinstance(item, list):
            left += item


def _nodes(value: Any) -> Iterator[str]:
    nodes: Sequence[Any] = value if isinstance(value, list) else ()
    for node in nodes:
        if isinstance(node, list) and node and isinstance(node[0], bytes):
            yield node[0].decode(errors="replace").strip()
