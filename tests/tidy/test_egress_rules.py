"""The kernel's rules hold the ranges that Haul's own check holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import collapse_addresses, ip_network

from tests.tidy.sources import ROOT
from worker.admission.ranges import ISATAP, ISATAP_MASK, RANGES

RULES = (ROOT / "deploy/egress.nft").read_text()
TABLE = {str(ip_network(text)) for text, _ in RANGES}


def test_the_kernels_sets_are_the_table_of_the_check() -> None:
    named = [*_elements("private4"), *_elements("private6")]
    assert {str(ip_network(text)) for text in named} == TABLE
    assert len(named) == len(TABLE)


def test_the_kernel_tells_isatap_by_the_same_bits() -> None:
    match = re.search(r"ip6 daddr & ::fdff:ffff:0:0 == ::5efe:0:0 goto refused", RULES)
    assert match
    assert (ISATAP_MASK, ISATAP) == (0xFDFF_FFFF << 32, 0x0000_5EFE << 32)


def test_the_units_deny_what_is_left_when_the_ranges_are_put_together() -> None:
    for path in (ROOT / "deploy/systemd").glob("haul-*.service"):
        text = path.read_text()
        if "aria2c" not in text and "qbittorrent-nox" not in text:
            continue
        denied = [ip_network(part) for line in re.findall(r"^IPAddressDeny=(.*)$", text, re.MULTILINE) for part in line.split()]
        assert set(denied) == set(_collapsed()), path.name


def _collapsed() -> Iterator[object]:
    networks = [ip_network(text) for text in TABLE]
    yield from collapse_addresses(network for network in networks if network.version == 4)
    yield from collapse_addresses(network for network in networks if network.version == 6)


def _elements(name: str) -> list[str]:
    match = re.search(rf"set {name} {{.*?elements = {{(.*?)}}", RULES, re.DOTALL)
    assert match
    return [part.strip() for part in match[1].split(",")]
