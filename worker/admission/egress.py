"""What a job may reach: checked for addresses that are written in a request, and for every connection that we make ourselves.

A name that resolves to a private address, or a redirect to one, is not seen when an engine follows it; README.md says so.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from worker.jobs.errors import Rejected
from worker.jobs.model import Source, SourceKind

LOCAL_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")


def check(source: Source, allowed: Sequence[IPv4Network | IPv6Network]) -> None:
    """Refuse a source whose host is written as a private address, in any of its spellings.

    Args:
        allowed: networks that may be reached although they are private.

    Raises:
        Rejected: the host is private and not allowed.
    """
    if source.kind is SourceKind.MAGNET:
        return
    host = (urlsplit(source.uri).hostname or "").rstrip(".")
    address = _literal(host)
    if address is None or permitted(address, allowed):
        return
    raise Rejected("uri", f"the address {host} is in a private network", fix="the operator opens networks with HAUL_ALLOW_NETWORKS")


def permitted(address: IPv4Address | IPv6Address, allowed: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether a guarded job may connect to an address: it is public, or in an allowed network. A mapped IPv4 address is one."""
    plain = (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
    return plain.is_global or any(plain in network for network in allowed if network.version == plain.version)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    if host in LOCAL_NAMES or host.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433, 0177.0.0.1
        except OSError:
            return None
