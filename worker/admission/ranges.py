"""Addresses that are nobody's on the public network, each range with its kind: the one table of the guard.

`deploy/egress.nft` holds the same ranges for the kernel; a test compares them. Sources: the IANA special-purpose registries for
IPv4 and IPv6 (RFC 6890 and what updates it), RFC 6598, RFC 5214, and the clouds' own documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

#: The smallest range that holds an address names its kind. Of IPv6 all that is not in 2000::/3 is nobody's.
RANGES: Sequence[tuple[str, str]] = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "cloud metadata"),  # Azure's, at a public address
    ("169.254.0.0/16", "link-local"),
    ("169.254.169.254/32", "cloud metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("255.255.255.255/32", "broadcast"),
    ("::/3", "reserved"),
    ("::/96", "IPv4-compatible"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0.0.0.0/96", "IPv4-mapped"),
    ("::ffff:0:0.0.0.0/96", "IPv4-translated"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discard"),
    ("2001::/23", "reserved"),
    ("2001::/32", "Teredo"),
    ("2001:2::/48", "benchmarking"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("4000::/2", "reserved"),
    ("8000::/1", "reserved"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
#: An interface identifier that ends with an IPv4 address (RFC 5214), whatever the bit says that is told universal by.
ISATAP_MASK, ISATAP = 0xFDFF_FFFF << 32, 0x0000_5EFE << 32

_KINDS: Sequence[tuple[Network, str]] = tuple(
    sorted(((ip_network(text), kind) for text, kind in RANGES), key=lambda pair: -pair[0].prefixlen)
)


def kind_of(address: Address) -> str | None:
    """What an address is instead of a public one; None for a public one. A mapped IPv4 address is what that is."""
    plain = unmapped(address)
    if isinstance(plain, IPv6Address) and int(plain) & ISATAP_MASK == ISATAP:
        return "ISATAP"
    return next((kind for network, kind in _KINDS if plain.version == network.version and plain in network), None)


def unmapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped one is to the kernel; other addresses, without a zone."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))
