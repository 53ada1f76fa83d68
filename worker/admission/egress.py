"""What a guarded job may reach: judged by addresses, and by hosts as the engines read them.

A host that is written as an address is judged by `check`, at the door. Names are resolved, and redirects seen, by `hops`.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote, urlsplit

from worker.admission.ranges import kind_of, unmapped
from worker.jobs import links
from worker.jobs.errors import Rejected
from worker.jobs.model import Source, SourceKind

LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
OPENED = "the operator opens networks with HAUL_ALLOW_NETWORKS"

#: The end of a host that programs take for an IPv4 address, or for none at all, but not all for the same.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_DECIMAL = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)")
#: What else than these is in a host is read in one way by one program and in another by the next.
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
#: What ends a label in other scripts; of the full-width ones NFKC makes these two.
_DOT = "。"


def check(source: Source, allowed: Sequence[IPv4Network | IPv6Network], document: bytes | None = None) -> None:
    """Refuse a source that is at, or names, a host written as a private address, in any of its spellings.

    Trackers, web seeds, peers and other sources of a magnet link and of a `.torrent` file are looked at, too.

    Args:
        allowed: networks that may be reached although they are private.
        document: the `.torrent` file that came with it.

    Raises:
        Rejected: such a host is private and not allowed, or programs differ in how they read it.
    """
    if document is not None:
        check_linked(links.of_torrent(document), allowed, "torrent")
    elif source.kind is SourceKind.MAGNET:
        check_linked(links.of_magnet(source.uri), allowed, "uri")
    elif source.uri.partition("://")[1]:
        check_host(host_of(source.uri, "uri"), allowed, "uri")


def names_hosts(source: Source, document: bytes | None = None) -> bool:
    """Whether more than addresses has to be judged: a name, which is to be resolved, or a document, which is to be read.

    Args:
        document: the `.torrent` file of the source, when it is at hand.
    """
    if document is None and source.kind in (SourceKind.TORRENT, SourceKind.METALINK):
        return True
    if document is not None:
        uris = links.of_torrent(document)
    else:
        uris = links.of_magnet(source.uri) if source.kind is SourceKind.MAGNET else [source.uri]
    return any(host is not None and not literals(host) for host in map(linked_host, uris))


def check_linked(uris: Iterable[str], allowed: Sequence[IPv4Network | IPv6Network], field: str) -> None:
    """`check_host` for each address that is named; what is none, as torrents have it, is passed over. Raises Rejected."""
    for uri in uris:
        if host := linked_host(uri):
            check_host(host, allowed, field)


def check_host(host: str, allowed: Sequence[IPv4Network | IPv6Network], field: str) -> None:
    """Refuse a host that is written as a private address. Raises Rejected."""
    for address in literals(host):
        if kind := refused_kind(address, allowed):
            raise Rejected(field, f"the address {host} is in a private network ({kind})", fix=OPENED)


def refused_kind(address: IPv4Address | IPv6Address, allowed: Sequence[IPv4Network | IPv6Network]) -> str | None:
    """What an address is that a guarded job may not reach; None when it may: it is public, or in an allowed network."""
    kind = kind_of(address)
    if kind is None:
        return None
    plain = unmapped(address)
    return None if any(plain in network for network in allowed if network.version == plain.version) else kind


def host_of(uri: str, field: str) -> str:
    """The host of a URI, in lower case, as every program reads it, without brackets and a dot at its end.

    Raises:
        Rejected: programs differ in which host it names, or in whether it names one.
    """
    unclear = Rejected(field, "names its host in a way that programs read differently", fix="write the plain host name or address")
    try:
        parts = urlsplit(uri)
        raw, port = parts.hostname or "", parts.port
    except ValueError:
        raise unclear from None
    login, _, shown = re.split(r"[/?#]", uri.partition("://")[2], maxsplit=1)[0].rpartition("@")
    if "@" in login or "\\" in login + shown or "%" in shown:  # ends of an authority for some programs, and part of it for others
        raise unclear
    if port is not None and not shown.rpartition(":")[2].isascii():
        raise unclear
    if shown.startswith("["):
        try:
            return str(IPv6Address(raw))
        except ValueError:
            raise unclear from None
    host = plain(raw)
    if not _NAME.fullmatch(host) and host.isascii():
        raise unclear
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and not literals(host):
        raise unclear
    return host


def plain(host: str) -> str:
    """A host with its characters as those of names: digits and dots of other scripts are digits and dots, for resolvers too."""
    shown = "".join(c for c in unicodedata.normalize("NFKC", host) if unicodedata.category(c) != "Cf")
    return shown.replace(_DOT, ".").lower().removesuffix(".")


def linked_host(uri: str) -> str | None:
    """The host of an address that a torrent or a magnet link names; None when it is no address of any.

    Nobody who makes a torrent checks what he writes in it, so what is unclear is judged as far as it can be read.
    """
    authority = unquote(re.split(r"[/?#\\]", uri.partition("://")[2], maxsplit=1)[0]).rpartition("@")[2]
    if authority.startswith("["):
        return authority[1:].partition("]")[0].partition("%")[0] or None
    return plain(authority.partition(":")[0]) or None


def literals(host: str) -> list[IPv4Address | IPv6Address]:
    """The addresses that a host is written as, in each way that it is read; none for a name."""
    if host in LOCAL_NAMES or host.endswith(".localhost"):
        return [IPv4Address("127.0.0.1")]
    found: list[IPv4Address | IPv6Address] = []
    if ":" in host:
        with suppress(ValueError):
            found.append(ip_address(host.partition("%")[0]))
        return found
    with suppress(OSError, UnicodeEncodeError):
        found.append(IPv4Address(socket.inet_aton(host)))  # 127.1, 0x7f000001, 2130706433, 0177.0.0.1
    if (four := _DECIMAL.fullmatch(host)) and all(len(part) <= 10 and int(part) < 256 for part in four.groups()):
        found.append(IPv4Address(".".join(str(int(part)) for part in four.groups())))  # 010.0.0.1 as those read it who know no octal
    return found
