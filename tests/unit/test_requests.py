"""What a door takes, and for each thing it does not take: the field it names and the fix it offers."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torrents import pack
from tests.unit.jobs_by_hypothesis import json_values
from worker.jobs.errors import Rejected
from worker.jobs.model import SourceKind
from worker.jobs.requests import SELECT_MAX, SHOWN_MAX, TORRENT_TEXT_MAX, URI_BYTES_MAX, parse, selection, source
from worker.jobs.torrents import TORRENT_BYTES_MAX, describe

GOOD = {"uri": "https://host/file.iso", "user": "42"}
HEX = "0123456789abcdef0123456789ABCDEF01234567"
SHA = "aB" * 32
DOCUMENT = pack().document
TORRENT = base64.b64encode(DOCUMENT).decode()

BAD = [
    ({"uri": None}, "uri", "https://host/file.iso"),
    ({"uri": ""}, "uri", "https://host/file.iso"),
    ({"uri": 7}, "uri", "https://host/file.iso"),
    ({"uri": "host/file.iso"}, "uri", "http, https, ftp or magnet"),
    ({"uri": f"torrent:{SHA}"}, "uri", "http, https, ftp or magnet"),
    ({"torrent": TORRENT}, "torrent", "one of the two"),
    ({"torrent": TORRENT, "uri": ""}, "torrent", "one of the two"),
    ({"torrent": "", "uri": None}, "torrent", "leave it out"),
    ({"torrent": 7, "uri": None}, "torrent", "leave it out"),
    ({"torrent": DOCUMENT, "uri": None}, "torrent", "leave it out"),
    ({"torrent": "d4:info", "uri": None}, "torrent", "encode"),
    ({"torrent": "ümlaut", "uri": None}, "torrent", "encode"),
    ({"torrent": "YWJj", "uri": None}, "torrent", "bytes of a .torrent file"),
    ({"torrent": "A" * (TORRENT_TEXT_MAX + 1), "uri": None}, "torrent", "magnet link"),
    ({"torrent": TORRENT, "uri": None, "select": "4"}, "select", "from 1 to 3"),
    ({"document": TORRENT}, "document", "known fields"),
    ({"description": {}}, "description", "known fields"),
    ({"uri": "gopher://host/file"}, "uri", "http, https, ftp or magnet"),
    ({"uri": "file:///etc/passwd"}, "uri", "http, https, ftp or magnet"),
    ({"uri": "https:///file"}, "uri", "https://host/file.iso"),
    ({"uri": "https://host:99999/file"}, "uri", "host and port"),
    ({"uri": "https://host:port/file"}, "uri", "host and port"),
    ({"uri": "https://host:0/file"}, "uri", "host and port"),
    ({"uri": "https://[::1/file"}, "uri", "host and port"),
    ({"uri": "https://host/a b"}, "uri", "%20"),
    ({"uri": "https://host/a\r\nHost: other"}, "uri", "percent-encode"),
    ({"uri": "https://host/\ud800"}, "uri", "UTF-8"),
    ({"uri": "https://host/" + "a" * URI_BYTES_MAX}, "uri", "direct link"),
    ({"uri": "magnet:?dn=name"}, "uri", "urn:btih"),
    ({"uri": "magnet:"}, "uri", "urn:btih"),
    ({"uri": f"magnet:?xt=urn:btih:{HEX[:-1]}"}, "uri", "urn:btih"),
    ({"uri": f"magnet:?xt=urn:btih:{HEX}0"}, "uri", "urn:btih"),
    ({"uri": f"magnet:?xt=urn:btih:{'a1' * 16}"}, "uri", "urn:btih"),
    ({"uri": f"magnet:?xt=urn:btmh:1220{HEX}"}, "uri", "urn:btih"),
    ({"user": None}, "user", "give a user"),
    ({"user": "  "}, "user", "give a user"),
    ({"user": True}, "user", "give a user"),
    ({"user": "u" * 129}, "user", "shorten"),
    ({"user": "a\nb"}, "user", "remove"),
    ({"user": "\udcff"}, "user", "UTF-8"),
    ({"key": ""}, "key", "give a key"),
    ({"key": "k" * 513}, "key", "shorten"),
    ({"tier": "a/b"}, "tier", "letters"),
    ({"priority": -1}, "priority", "from 0 to 1000"),
    ({"priority": 1001}, "priority", "from 0 to 1000"),
    ({"priority": True}, "priority", "from 0 to 1000"),
    ({"priority": 1.5}, "priority", "from 0 to 1000"),
    ({"priority": "high"}, "priority", "from 0 to 1000"),
    ({"priority": [1]}, "priority", "from 0 to 1000"),
    ({"sha256": "abc"}, "sha256", "64 hexadecimal"),
    ({"sha256": "g" * 64}, "sha256", "64 hexadecimal"),
    ({"sha256": "a" * 65}, "sha256", "64 hexadecimal"),
    ({"name": ""}, "name", "leave it out"),
    ({"name": 7}, "name", "leave it out"),
    ({"name": "../passwd"}, "name", "bare file name"),
    ({"name": "a/b"}, "name", "bare file name"),
    ({"name": "a\\b"}, "name", "bare file name"),
    ({"name": ".."}, "name", "bare file name"),
    ({"name": "."}, "name", "bare file name"),
    ({"name": "a\0b"}, "name", "remove"),
    ({"name": "a\x7fb"}, "name", "remove"),
    ({"name": "ü" * 128}, "name", "shorten"),
    ({"name": "\ud83d"}, "name", "UTF-8"),
    ({"engine": "no such name!"}, "engine", "letters"),
    ({"engine": 1}, "engine", "letters"),
    ({"category": "c" * 65}, "category", "letters"),
    *(({"max_speed": wrong}, "max_speed", "at least 1024") for wrong in (0, 1023, -1, True, 1 << 31, 2e6, "fast", "1 KB/s", "", [])),
    ({"seed_ratio": -0.1}, "seed_ratio", "from 0 to 1000"),
    ({"seed_ratio": "nan"}, "seed_ratio", "from 0 to 1000"),
    ({"seed_ratio": 10**400}, "seed_ratio", "from 0 to 1000"),
    ({"seed_ratio": True}, "seed_ratio", "from 0 to 1000"),
    ({"webhook": ""}, "webhook", "give a webhook"),
    ({"webhook": ["https://host"]}, "webhook", "give a webhook"),
    ({"webhook": "https://host/" + "a" * URI_BYTES_MAX}, "webhook", "shorten"),
    ({"webhook": "https://host/a\r\nb"}, "webhook", "remove"),
    ({"hash": "false"}, "hash", "without quotes"),
    ({"guard": 1}, "guard", "without quotes"),
    ({"out": "/home"}, "out", "leave it out"),
    ({"colour": "green"}, "colour", "known fields"),
    ({"source": "x"}, "source", "known fields"),
    ({"guarded": False}, "guarded", "known fields"),
    ({"select": "0"}, "select", "1,3-5"),
    ({"select": "5-3"}, "select", "1,3-5"),
    ({"select": "1,,2"}, "select", "1,3-5"),
    ({"select": "a"}, "select", "1,3-5"),
    ({"select": "-3"}, "select", "1,3-5"),
    ({"select": "1_0"}, "select", "1,3-5"),
    ({"select": [1, -2]}, "select", "1,3-5"),
    ({"select": [1.5]}, "select", "1,3-5"),
    ({"select": [True]}, "select", "1,3-5"),
    ({"select": {"a": 1}}, "select", "1,3-5"),
    ({"select": f"1-{SELECT_MAX + 1}"}, "select", "1,3-5"),
    ({"select": [f"1-{SELECT_MAX}"] * 1_000}, "select", "1,3-5"),
]


@pytest.mark.parametrize(("spec", "field", "fix"), BAD, ids=lambda value: repr(value)[:40])
def test_bad_input_is_refused_with_its_field_and_the_fix(spec: dict[str, Any], field: str, fix: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse({**GOOD, **spec})
    assert caught.value.field == field
    assert fix in caught.value.fix
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize("spec", [None, [], ["uri"], "uri", 7])
def test_what_is_no_object_is_refused(spec: Any) -> None:
    with pytest.raises(Rejected, match="request: is not an object"):
        parse(spec)


@given(
    st.dictionaries(
        st.sampled_from(["uri", "torrent", "user", "key", "priority", "name", "select", "seed_ratio", "max_speed", "hash", "tier", "out"]),
        json_values,
    )
)
def test_any_json_is_taken_or_refused_and_nothing_else_happens(spec: dict[str, Any]) -> None:
    try:
        parse({**GOOD, **spec}, owner=True)
    except Rejected as refused:
        assert refused.field in spec  # noqa: PT017 - both ends are right


@pytest.mark.parametrize("uri", ["https://user:hunter2@host:99999/", "https://user:hunter2@ho\u2100st/", "https://user:hunter2/"])
def test_a_refused_url_does_not_show_its_password(uri: str) -> None:
    with pytest.raises(Rejected) as caught:
        source(uri)
    assert "hunter2" not in str(caught.value)


def test_a_long_wrong_value_is_not_repeated_in_full() -> None:
    for spec in ({"select": "x" * 10_000}, {"tier": "!" * 10_000}):
        with pytest.raises(Rejected) as caught:
            parse({**GOOD, **spec})
        assert len(str(caught.value)) < 200 + SHOWN_MAX


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("http://host/file", SourceKind.HTTP),
        ("HTTPS://HOST/file", SourceKind.HTTP),
        ("https://user:pw@[::1]:8443/file?a=b#c", SourceKind.HTTP),
        ("https://bücher.example/ü", SourceKind.HTTP),
        ("ftp://host/file", SourceKind.FTP),
        ("https://host/x.Torrent?passkey=1", SourceKind.TORRENT),
        ("https://host/x.meta4", SourceKind.METALINK),
        ("ftp://host/x.metalink", SourceKind.METALINK),
        ("ftp://host/x.torrent", SourceKind.FTP),
        ("https://host/x?file=.torrent", SourceKind.HTTP),
        (f"magnet:?xt=urn:btih:{HEX}", SourceKind.MAGNET),
        (f"magnet:?dn=a&xt=urn:btih:{'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'}", SourceKind.MAGNET),
        (f"magnet:?xt=urn:btih:{'abcdefghijklmnopqrstuvwxyz234567'}", SourceKind.MAGNET),
        (f"magnet:?xt=urn:btmh:1220{SHA}", SourceKind.MAGNET),
        (f"magnet:?xt=urn%3Abtih%3A{HEX}", SourceKind.MAGNET),
        (f"magnet:?xt=urn:sha1:xyz&xt=urn:btih:{HEX}", SourceKind.MAGNET),
    ],
)
def test_the_kind_of_a_source_is_told_by_its_uri(uri: str, kind: SourceKind) -> None:
    assert source(f"  {uri}\n").kind is kind
    assert source(f"  {uri}\n").uri == uri


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("1", (1,)),
        (7, (7,)),
        ("1,3-5", (1, 3, 4, 5)),
        (" 5 , 1 - 2 ", (1, 2, 5)),
        ("3,3,2-3", (2, 3)),
        ([3, 1], (1, 3)),
        (["1", "4-5"], (1, 4, 5)),
        ("7-7", (7,)),
    ],
)
def test_files_are_selected_by_numbers_and_ranges(value: Any, chosen: tuple[int, ...]) -> None:
    assert selection(value) == chosen


def test_all_files_of_the_largest_torrent_can_be_selected() -> None:
    assert len(selection(f"1-{SELECT_MAX}")) == SELECT_MAX


def test_a_full_request_is_taken_as_it_was_meant() -> None:
    spec = {
        **GOOD,
        "user": 42,
        "key": "k",
        "tier": "gold",
        "priority": "9",
        "name": "ünï 🎬.iso",
        "sha256": SHA,
        "hash": True,
        "engine": "aria2-2",
        "select": "1,3",
        "seed_ratio": "1.5",
        "category": "films",
    }
    request = parse(spec)
    assert (request.user, request.key, request.tier, request.priority, request.name) == ("42", "k", "gold", 9, "ünï 🎬.iso")
    assert (request.sha256, request.hash_wanted, request.engine, request.select) == (SHA.lower(), True, "aria2-2", (1, 3))
    assert (request.seed_ratio, request.category, request.out, request.guarded) == (1.5, "films", None, True)


def test_a_torrent_file_is_a_source_by_its_content() -> None:
    request = parse({"torrent": TORRENT, "user": "42", "select": "1,3", "name": "mine"})
    assert (request.source.kind, request.source.uri) == (SourceKind.TORRENT, f"torrent:{hashlib.sha256(DOCUMENT).hexdigest()}")
    assert (request.document, request.description, request.select) == (DOCUMENT, describe(DOCUMENT, (1, 3)), (1, 3))
    assert request.name == "mine"


def test_a_torrent_file_may_have_line_breaks_as_tools_write_them() -> None:
    text = base64.encodebytes(DOCUMENT).decode()
    assert parse({"torrent": text, "user": "42"}).document == DOCUMENT


def test_the_largest_torrent_file_fits_its_text() -> None:
    assert len(base64.encodebytes(bytes(TORRENT_BYTES_MAX))) <= TORRENT_TEXT_MAX


def test_what_is_left_out_has_its_default() -> None:
    request = parse(GOOD)
    assert (request.key, request.tier, request.priority, request.select, request.hash_wanted) == (None, "free", 0, (), False)
    assert parse({**GOOD, "key": None, "name": None, "priority": None, "hash": None}) == request


def test_nobody_but_the_owner_reaches_private_networks() -> None:
    assert parse({**GOOD, "guard": False}).guarded
    assert not parse(GOOD, owner=True).guarded
    assert parse({**GOOD, "guard": True}, owner=True).guarded


def test_the_owner_may_name_a_directory() -> None:
    assert parse({**GOOD, "out": "/srv/films"}, owner=True).out == "/srv/films"


@pytest.mark.parametrize("out", ["", 7, "/srv/\0", "/srv/\udcff"])
def test_a_directory_that_cannot_be_is_refused_to_the_owner_too(out: Any) -> None:
    with pytest.raises(Rejected) as caught:
        parse({**GOOD, "out": out}, owner=True)
    assert caught.value.field == "out"


@pytest.mark.parametrize(
    ("given", "speed"), [("2M", 2_000_000), ("500 KiB/s", 512_000), (1024, 1024), ("1.5 MiB", 1_572_864), (None, None)]
)
def test_a_speed_is_bytes_a_second_or_a_size(given: Any, speed: int | None) -> None:
    assert parse({**GOOD, "max_speed": given}).max_speed == speed
