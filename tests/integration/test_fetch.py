"""Documents fetched by us: from servers that behave, and from all that do not; and only from where a job may go."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from tests.integration.answers import answering, resolving, said
from tests.origin import Origin, content
from worker.admission import fetch as module
from worker.admission import line
from worker.admission.fetch import fetch
from worker.jobs.states import Cause
from worker.ports import Fault

BYTES_MAX = 1_000_000
LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = "hunter2"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", 0.6)


def failed(answer: bytes | Fault, cause: Cause, *, passing: bool) -> str:
    """The words of a fetch that failed for this cause."""
    assert isinstance(answer, Fault), answer
    assert (answer.cause, answer.passing) == (cause, passing), answer
    assert not any(part in answer.detail for part in ("://", "127.0.0.1", SECRET, "x.torrent")), "neither address nor password"
    return answer.detail


# ---- servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["file/x.torrent?size=300000", "nolength/x?size=300000", "redirect/5/file/x.torrent?size=300000"])
def test_the_body_comes_as_it_is(origin: Origin, path: str) -> None:
    assert fetch(origin.url(path), BYTES_MAX, None) == content(300_000)


def test_a_body_in_chunks_and_packed_comes_as_it_was_meant() -> None:
    packed = gzip.compress(b"torrent" * 1_000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
    whole = head + b"".join(b"1\r\n%c\r\n" % byte for byte in packed) + b"0\r\n\r\n"
    with answering(lambda connection: connection.sendall(whole)) as url:
        assert fetch(url, BYTES_MAX, None) == b"torrent" * 1_000


def test_how_long_a_busy_server_wants_to_be_left_alone_is_told_and_other_refusals_say_nothing_of_it(origin: Origin) -> None:
    times = [fetch(origin.url(f"status/{status}?after=70"), BYTES_MAX, None) for status in (429, 503, 500, 404)]
    assert [answer.retry_after_s for answer in times if isinstance(answer, Fault)] == [70.0, 70.0, None, None]


@pytest.mark.parametrize(
    ("status", "cause", "passing"),
    [
        (404, Cause.NOT_FOUND, False),
        (410, Cause.NOT_FOUND, False),
        (401, Cause.FORBIDDEN, False),
        (403, Cause.FORBIDDEN, False),
        (503, Cause.BUSY, True),
        (429, Cause.BUSY, True),
        (500, Cause.HTTP, True),
        (400, Cause.HTTP, False),
        (204, Cause.HTTP, False),
    ],
)
def test_a_status_is_a_fault_by_cause(origin: Origin, status: int, cause: Cause, passing: bool) -> None:
    assert str(status) in failed(fetch(origin.url(f"status/{status}"), BYTES_MAX, None), cause, passing=passing)


def test_a_user_and_a_password_are_sent_and_never_told(origin: Origin) -> None:
    url = origin.url(f"auth/x.torrent?user=a%40b&password={SECRET}&size=10")
    known = url.replace("://", f"://a%40b:{SECRET}@")
    assert fetch(known, BYTES_MAX, None) == content(10)
    failed(fetch(known.replace(SECRET + "@", SECRET + "3@"), BYTES_MAX, None), Cause.FORBIDDEN, passing=False)


def test_a_password_goes_along_on_its_host_and_to_no_other(origin: Origin) -> None:
    inner = f"auth/x.torrent?user=ann&password={SECRET}&size=10"
    login = f"://ann:{SECRET}@"
    assert fetch(origin.url(f"redirect/2/{inner}").replace("://", login), BYTES_MAX, None) == content(10)
    with answering(lambda connection: connection.sendall(moved(origin.url(inner)))) as url:
        failed(fetch(url.replace("://", login), BYTES_MAX, None), Cause.FORBIDDEN, passing=False)


def moved(to: str) -> bytes:
    return said(b"", "302 Found", f"Location: {to}")


def test_six_redirects_are_too_many(origin: Origin) -> None:
    failed(fetch(origin.url("redirect/6/file/x.torrent"), BYTES_MAX, None), Cause.HTTP, passing=False)


@pytest.mark.parametrize(
    ("location", "cause", "words"),
    [
        ("file:///etc/passwd", Cause.HTTP, "not http"),
        ("ftp://example.org/x", Cause.HTTP, "not http"),
        ("", Cause.HTTP, "not http"),
        ("http://[::1/", Cause.HTTP, "cannot be read"),
        ("http://example.org:port/", Cause.HTTP, "cannot be read"),
        ("magnet:?xt=urn:btih:" + "a" * 40, Cause.SOURCE, "magnet link"),
    ],
)
def test_a_redirect_to_what_is_no_web_address_is_not_followed(location: str, cause: Cause, words: str) -> None:
    with answering(lambda connection: connection.sendall(moved(location))) as url:
        assert words in failed(fetch(url, BYTES_MAX, None), cause, passing=False)


@pytest.mark.parametrize("path", ["file/x.torrent?size=1000001", "nolength/x.torrent?size=500000000"])
def test_a_body_that_is_too_large_is_cut_off(origin: Origin, path: str) -> None:
    began = origin.bytes_served.total()
    failed(fetch(origin.url(path), BYTES_MAX, None), Cause.SOURCE, passing=False)
    assert origin.bytes_served.total() - began < 5_000_000


def test_a_small_answer_that_unpacks_to_a_large_one_is_cut_off() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with answering(lambda connection: connection.sendall(said(bomb, "200 OK", "Content-Encoding: gzip"))) as url:
        failed(fetch(url, BYTES_MAX, None), Cause.SOURCE, passing=False)


def test_a_body_that_breaks_off_is_tried_again(origin: Origin) -> None:
    url = origin.url("cut/x.torrent?at=1000&times=1&size=100000")
    failed(fetch(url, BYTES_MAX, None), Cause.INTERRUPTED, passing=True)
    assert fetch(url, BYTES_MAX, None) == content(100_000)


def test_a_body_that_is_shorter_than_announced_is_not_taken() -> None:
    with answering(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as url:
        failed(fetch(url, BYTES_MAX, None), Cause.INTERRUPTED, passing=True)


def drip(*parts: bytes) -> Callable[[socket.socket], None]:
    """Send the parts, then a byte every 20 ms for ever."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        while True:
            time.sleep(0.02)
            connection.sendall(b"x")

    return answer


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "answer",
    [
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nX-Header: "),
        drip(),
        drip(moved("http://127.0.0.1/")[:-2]),
        lambda connection: time.sleep(30),
    ],
    ids=["body", "header", "status line", "redirect", "silence"],
)
def test_a_server_that_dawdles_is_given_up_in_time(answer: Callable[[socket.socket], None]) -> None:
    with answering(answer) as url:
        began = time.monotonic()
        failed(fetch(url, BYTES_MAX, None), Cause.UNREACHABLE, passing=True)
        assert time.monotonic() - began < 10


@pytest.mark.usefixtures("hasty")
def test_a_server_that_never_ends_the_handshake_is_given_up_in_time() -> None:
    with answering(drip(b"\x16\x03\x03\x40\x00")) as url:
        began = time.monotonic()
        failed(fetch(url.replace("http://", "https://"), BYTES_MAX, None), Cause.UNREACHABLE, passing=True)
        assert time.monotonic() - began < 10


def test_a_server_that_closes_at_once_or_talks_nonsense_is_told_apart() -> None:
    with answering(lambda connection: None) as url:
        failed(fetch(url, BYTES_MAX, None), Cause.INTERRUPTED, passing=True)
    with answering(lambda connection: connection.sendall(b"220 ftp ready\r\n\r\n")) as url:
        failed(fetch(url, BYTES_MAX, None), Cause.HTTP, passing=False)


def test_a_plain_server_is_no_secure_one(origin: Origin) -> None:
    detail = failed(fetch(origin.url("file/x").replace("http:", "https:"), BYTES_MAX, None), Cause.UNREACHABLE, passing=False)
    assert "TLS" in detail


def test_nobody_listens_and_no_such_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "refuses" in failed(fetch(f"http://127.0.0.1:{port}/", BYTES_MAX, None), Cause.UNREACHABLE, passing=True)

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "name" in failed(fetch("http://no-such-host.example/", BYTES_MAX, None), Cause.UNREACHABLE, passing=True)


def test_a_fault_of_ours_is_not_taken_for_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    with pytest.raises(RuntimeError, match="ours"):
        fetch("http://example.org/", BYTES_MAX, None)


# ---- where a guarded job may go --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost.", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_refused_in_whatever_spelling(origin: Origin, host: str) -> None:
    before = origin.requests.total()
    url = origin.url("file/x.torrent").replace("127.0.0.1", host)
    assert "private network" in failed(fetch(url, BYTES_MAX, ()), Cause.REFUSED, passing=False)
    assert origin.requests.total() == before, "nothing was sent"


def test_an_allowed_network_is_reached(origin: Origin) -> None:
    for host in ("127.0.0.1", "localhost"):
        assert fetch(origin.url("file/x.torrent?size=10").replace("127.0.0.1", host), BYTES_MAX, LOOPBACK) == content(10)


def test_a_name_that_leads_into_a_private_network_is_refused(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    before = origin.requests.total()
    resolving(monkeypatch, {"public.example": ["127.0.0.1"]})
    url = origin.url("file/x.torrent").replace("127.0.0.1", "public.example")
    failed(fetch(url, BYTES_MAX, ()), Cause.REFUSED, passing=False)
    assert origin.requests.total() == before


def test_a_name_is_resolved_once_and_its_forbidden_addresses_are_left_out(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, {"both.example": ["10.255.255.1", "127.0.0.1"]})
    url = origin.url("file/x.torrent?size=10").replace("127.0.0.1", "both.example")
    began = time.monotonic()
    assert fetch(url, BYTES_MAX, LOOPBACK) == content(10)
    assert asked == ["both.example"]
    assert time.monotonic() - began < line.CONNECT_S, "the other address was not tried"


def test_a_redirect_to_a_private_address_is_refused(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {"public.example": ["127.0.0.2"]})
    only = (ip_network("127.0.0.2/32"),)
    with Origin(host="127.0.0.2") as public:
        public_url = f"http://public.example:{public.port}/redirect/1/file/x.torrent?size=10"
        assert fetch(public_url, BYTES_MAX, only) == content(10)
    with answering(lambda connection: connection.sendall(moved(origin.url("file/inner.torrent"))), "127.0.0.2") as url:
        failed(fetch(url, BYTES_MAX, only), Cause.REFUSED, passing=False)
    assert origin.requests["/file/inner.torrent"] == 0


def test_the_environment_names_no_proxy_and_no_password(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(origin.url("file/x.torrent?size=10"), BYTES_MAX, None) == content(10)
