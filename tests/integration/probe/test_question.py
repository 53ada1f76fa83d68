"""One question to one source: what is taken for a size and a validator, and how long it is waited for."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.integration.answers import answering, resolving, said
from tests.integration.doors import DEADLINE_S
from tests.origin import LAST_MODIFIED, Origin
from worker.admission.ask import SIZE_MAX, ask
from worker.jobs.probe import Probe
from worker.jobs.states import Cause

OPEN = None


def test_a_server_tells_size_and_validators_by_head(origin: Origin) -> None:
    found, fault = ask(origin.url("file/one?size=123456&seed=7"), OPEN)
    assert (found, fault) == (Probe(123_456, '"123456-7"', LAST_MODIFIED), None)
    assert (origin.probes["/file/one"], origin.requests["/file/one"], origin.bytes_served["/file/one"]) == (1, 0, 0)


@pytest.mark.parametrize("status", ["405 No", "403 No", "501 No", "400 No"])
def test_a_server_that_refuses_head_is_asked_for_the_first_byte(status: str) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65_536))
                    head = asked[-1].startswith(b"HEAD")
                    part = said(b"x", "206 Partial Content", "Content-Range: bytes 0-0/5000000000", 'ETag: "strong"')
                    connection.sendall(said(b"", status) if head else part)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found, fault = ask(f"http://127.0.0.1:{listener.getsockname()[1]}/x", OPEN)
        thread.join(DEADLINE_S)
    assert (found, fault) == (Probe(5_000_000_000, '"strong"'), None)
    assert b"Range: bytes=0-0" in asked[1]


def test_a_server_that_knows_no_sizes_tells_none_and_nothing_is_downloaded(origin: Origin) -> None:
    found, fault = ask(origin.url("nolength/big?size=50000000"), OPEN)
    assert (found, fault) == (Probe(), None)
    assert (origin.probes["/nolength/big"], origin.requests["/nolength/big"]) == (2, 0)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (said(b"x" * 3, "200 OK", 'ETag: W/"weak"'), Probe(3)),
        (said(b"x" * 3, "200 OK", "ETag: unquoted", "Last-Modified: Tue"), Probe(3, None, "Tue")),
        (said(b"x" * 3, "200 OK", "ETag: " + '"' + "x" * 300 + '"'), Probe(3)),
        (said(b"x" * 3, "200 OK", "Content-Encoding: gzip"), Probe()),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Probe()),
        (said(b"", "404 Not Found"), Probe()),
        (said(b"", "500 Oh"), Probe()),
        (said(b"", "206 Partial Content", "Content-Range: bytes 0-0/*"), Probe()),
    ],
)
def test_what_is_no_size_and_no_strong_validator_is_not_taken_for_one(answer: bytes, found: Probe) -> None:
    with answering(lambda connection: connection.sendall(answer)) as url:
        assert ask(url, OPEN) == (found, None)


@pytest.mark.parametrize("announced", ["9000000000000000000", "9" * 5_000])
@pytest.mark.parametrize("head", ["200 OK\r\nContent-Length: {}", "206 Partial\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/{}"])
def test_a_length_that_no_disk_has_is_one_that_fits_nowhere(head: str, announced: str) -> None:
    """aria2 dies of it, with all its downloads, and again after each start."""
    answer = f"HTTP/1.1 {head.format(announced)}\r\n\r\n".encode()
    with answering(lambda connection: connection.sendall(answer)) as url:
        assert ask(url, OPEN) == (Probe(SIZE_MAX), None)


def test_credentials_go_to_their_host_only_and_redirects_are_followed(origin: Origin) -> None:
    url = origin.url("auth/x?user=a&password=b&size=77")
    assert ask(url, OPEN)[0].size is None
    assert ask(url.replace("http://", "http://a:b@"), OPEN)[0].size == 77
    assert ask(origin.url("redirect/3/file/y?size=78"), OPEN)[0].size == 78
    with answering(lambda connection: connection.sendall(said(b"", "302 Found", f"Location: {url}"))) as other:
        assert ask(other.replace("http://", "http://a:b@"), OPEN)[0].size is None


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_deadline(origin: Origin, hasty: None) -> None:
    began = time.monotonic()
    found, fault = ask(origin.url("hang/x"), OPEN)
    assert time.monotonic() - began < 3.8, "by itself it waits for four seconds"
    assert found == Probe()
    assert fault
    assert fault.cause is Cause.UNREACHABLE


def test_each_hop_is_looked_at_by_the_guard(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {"public.example": ["127.0.0.2"]})
    with answering(lambda connection: connection.sendall(said(b"12345")), "127.0.0.2") as private:
        named = private.replace("127.0.0.2", "public.example")
        found, fault = ask(named, ())
        assert found == Probe()
        assert fault
        assert fault.cause is Cause.REFUSED
        assert ask(named, OPEN)[0].size == 5
