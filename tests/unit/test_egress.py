"""What a guarded job may name, judged without asking anybody."""

from __future__ import annotations

import base64
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.egress.corpus import Case, cases
from tests.torrents import bencode, pack
from worker.admission import egress
from worker.admission.ranges import kind_of
from worker.jobs import links
from worker.jobs.errors import Rejected
from worker.jobs.requests import parse
from worker.jobs.torrents import describe

HASH = "a1" * 20


def stopped(case: Case, *allowed: str) -> Rejected | None:
    """What the door says to a case of a client."""
    document = {"torrent": base64.b64encode(case.document).decode()} if case.document else {"uri": case.uri}
    try:
        request = parse({"user": "ann", **document})
        egress.check(request.source, [ip_network(network) for network in allowed], request.document)
    except Rejected as refusal:
        return refusal
    return None


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_the_door_stops_what_it_is_said_to_stop_and_nothing_else(case: Case) -> None:
    assert (stopped(case) is not None) is (case.stop == "door"), case


def test_every_case_that_only_names_an_address_passes_where_all_networks_are_open() -> None:
    spelled = [case for case in cases() if case.stop == "door" and case.reaches and stopped(case, "0.0.0.0/0", "::/0") is not None]
    unclear = [case.uri for case in spelled if "programs read differently" not in str(stopped(case, "0.0.0.0/0", "::/0"))]
    assert unclear == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("169.254.169.254", "cloud metadata"),
        ("169.254.0.1", "link-local"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:10.0.0.1", "private"),
        ("::1", "loopback"),
        ("fe80::1%eth0", "link-local"),
        ("fd00::1", "private"),
        ("2002:a00:1::", "6to4"),
        ("2001:0:a00:1::", "Teredo"),
        ("64:ff9b::10.0.0.1", "NAT64"),
        ("2a00:1450::5efe:a00:1", "ISATAP"),
        ("5f00::1", "reserved"),
        ("1.1.1.1", None),
        ("::ffff:1.1.1.1", None),
        ("2606:4700::1111", None),
        ("2a00:1450::1", None),
    ],
)
def test_an_address_is_of_its_kind(address: str, kind: str | None) -> None:
    assert kind_of(ip_address(address)) == kind


@given(st.ip_addresses())
def test_what_python_knows_to_be_nobodys_is_never_taken_for_public(address: object) -> None:
    found = ip_address(str(address))
    if not found.is_global or found.is_multicast:
        assert kind_of(found) is not None


@pytest.mark.parametrize(
    "uri",
    [
        "http://example.org/x",
        "https://user:pa%40ss@example.org:8443/x?a=b@c#d",
        "http://1.1.1.1/",
        "http://[2606:4700::1111]/",
        "ftp://bücher.example/x",
        "http://xn--bcher-kva.example/",
        "http://my_host.example/",
        "http://1and1.example/",
        "http://pub.test#@127.0.0.1/",
    ],
)
def test_a_public_host_passes_in_each_of_its_forms(uri: str) -> None:
    assert egress.check(parse({"user": "ann", "uri": uri}).source, ()) is None


def test_an_allowed_network_is_open_in_every_spelling() -> None:
    for host in ("10.1.2.3", "0xa010203", "167838211", "[::ffff:10.1.2.3]"):
        assert egress.check(parse({"user": "ann", "uri": f"http://{host}/"}).source, [ip_network("10.0.0.0/8")]) is None
    with pytest.raises(Rejected, match="private network"):
        egress.check(parse({"user": "ann", "uri": "http://10.1.2.3/"}).source, [ip_network("10.2.0.0/16")])


def test_the_words_name_the_kind_of_the_address_and_who_can_open_it() -> None:
    with pytest.raises(Rejected) as refused:
        egress.check(parse({"user": "ann", "uri": "http://2130706433/x"}).source, ())
    assert (refused.value.field, refused.value.detail) == ("uri", "the address 2130706433 is in a private network (loopback)")
    assert "HAUL_ALLOW_NETWORKS" in refused.value.fix


# ---- what is left of a link ------------------------------------------------------------------------------------


def unwanted(uri: str) -> bool:
    return egress.linked_host(uri) == "bad.example"


def test_a_magnet_link_loses_the_unwanted_addresses_and_nothing_else() -> None:
    head = f"magnet:?xt=urn:btih:{HASH}&dn=a%20b&tr=http%3A%2F%2Fgood.example%2Fa"
    unclean = f"{head}&tr.2=udp%3A%2F%2Fbad.example%3A1%2F&ws=http://bad.example/&x.pe=bad.example:1&xl=5"
    assert links.magnet_without(unclean, unwanted) == f"{head}&xl=5"


def test_a_torrent_loses_the_unwanted_addresses_and_keeps_its_infohash() -> None:
    bad, good = "http://bad.example/announce", "http://good.example/announce"
    made = pack(trackers=(bad, good), web_seeds=(bad, good))
    document = bencode({"nodes": [["bad.example", 1], ["good.example", 2]], "comment": "c"})[:-1] + made.document[1:]
    left = links.torrent_without(document, unwanted)
    assert describe(left).v1 == describe(document).v1
    assert links.of_torrent(left) == [good, "dht://good.example:0"]
    assert b"bad.example" not in left
    assert b"7:comment1:c" in left
    assert links.torrent_without(left, unwanted) == left


def test_a_torrent_whose_every_tracker_is_unwanted_has_none() -> None:
    made = pack(trackers=("http://bad.example/a",))
    assert links.of_torrent(links.torrent_without(made.document, unwanted)) == []


@pytest.mark.parametrize("body", [b"", b"<a", b"\xff\xfe<\x00", b"<metalink>" + b"<x>" * 10])
def test_what_is_no_metalink_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected, match="no XML"):
        links.of_metalink(body)


def test_a_metalink_of_a_size_that_no_disk_has_is_refused_before_an_engine_dies_of_it() -> None:
    text = "<metalink><file name='x'><size> %s </size><url>http://a/</url></file></metalink>"
    with pytest.raises(Rejected, match="a size that no disk has"):
        links.of_metalink((text % 9223372036854775807).encode())
    assert links.of_metalink((text % ("0" * 20 + "1000")).encode()) == ["http://a/"]


def test_a_metalink_in_another_encoding_tells_its_mirrors_all_the_same() -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><m:metalink xmlns:m="urn:x"><m:url><![CDATA[http://10.0.0.1/&#]]></m:url></m:metalink>'
    assert links.of_metalink(text.encode("utf-16")) == ["http://10.0.0.1/&#"]
    escaped = b"<metalink><metaurl mediatype='torrent'>&#104;ttp://10.0.0.1/x</metaurl></metalink>"
    assert links.of_metalink(escaped) == ["http://10.0.0.1/x"]


def test_too_many_addresses_are_refused() -> None:
    with pytest.raises(Rejected, match="more than 1000"):
        links.of_magnet(f"magnet:?xt=urn:btih:{HASH}" + "".join(f"&tr=http://h{n}.example/" for n in range(1001)))
