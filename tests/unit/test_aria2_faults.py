"""aria2's codes and texts become causes, in words that hold nothing of the address."""

from __future__ import annotations

import pytest

from worker.engines.aria2.faults import fault
from worker.jobs.states import Cause, Reason


@pytest.mark.parametrize(
    ("code", "text", "cause", "passing", "elsewhere"),
    [
        ("3", "Resource not found", Cause.NOT_FOUND, False, False),
        ("24", "Authorization failed.", Cause.FORBIDDEN, False, False),
        ("29", "status=503", Cause.BUSY, True, False),
        ("19", "Name resolution for host failed", Cause.UNREACHABLE, True, False),
        ("1", "Failed to establish connection, cause: Connection refused", Cause.UNREACHABLE, True, False),
        ("1", "SSL/TLS handshake failure: protocol error", Cause.UNREACHABLE, False, False),
        ("1", "No URI available.", Cause.INTERRUPTED, True, False),
        ("1", "No URI to download.", Cause.SOURCE, False, False),
        ("1", "Download aborted.", Cause.ENGINE, False, True),
        ("1", "", Cause.ENGINE, True, True),
        ("", "", Cause.ENGINE, True, True),
        ("999", "something new", Cause.ENGINE, True, True),
        ("2", "Timeout.", Cause.UNREACHABLE, True, False),
        ("8", "", Cause.INTERRUPTED, False, False),
        ("9", "No space left on device", Cause.DISK, True, False),
        ("12", "InfoHash x is already registered.", Cause.ENGINE, True, False),
        ("16", "", Cause.DISK, False, True),
        ("23", "Too many redirects", Cause.HTTP, False, False),
        ("26", "", Cause.SOURCE, False, False),
        ("28", "", Cause.ENGINE, False, True),
        ("32", "", Cause.CHECKSUM, False, True),
    ],
)
def test_a_code_has_its_cause(code: str, text: str, cause: Cause, passing: bool, elsewhere: bool) -> None:
    found = fault(code, text)
    assert (found.cause, found.passing, found.elsewhere) == (cause, passing, elsewhere)


@pytest.mark.parametrize(
    ("status", "cause", "passing"),
    [
        (400, Cause.HTTP, False),
        (403, Cause.FORBIDDEN, False),
        (404, Cause.NOT_FOUND, False),
        (408, Cause.HTTP, True),
        (410, Cause.NOT_FOUND, False),
        (416, Cause.HTTP, False),
        (429, Cause.BUSY, True),
        (451, Cause.FORBIDDEN, False),
        (500, Cause.HTTP, True),
        (501, Cause.HTTP, False),
        (522, Cause.HTTP, True),
    ],
)
def test_a_status_is_read_from_the_text(status: int, cause: Cause, passing: bool) -> None:
    found = fault("22", f"The response status is not successful. status={status}")
    assert (found.cause, found.passing) == (cause, passing)
    assert str(status) in found.detail


@pytest.mark.parametrize("code", [str(code) for code in range(33)])
def test_no_detail_repeats_what_aria2_said(code: str) -> None:
    said = "URI=http://user:password@host/path?token=1 status=500 Connection refused"
    detail = fault(code, said).detail
    assert detail
    assert not any(part in detail for part in ("http:", "user:", "password@", "token", "URI"))


def test_a_torrent_that_is_there_for_another_job_is_waited_for() -> None:
    assert fault("12", "").wait is Reason.DUPLICATE
    assert all(fault(str(code), "").wait is None for code in range(33) if code not in (9, 11, 12))


@pytest.mark.parametrize("code", ["14", "15", "16", "17", "18"])
@pytest.mark.parametrize("words", ["No space left on device", "Disk quota exceeded"])
def test_a_file_that_a_full_disk_refuses_waits_for_space_whatever_its_code(code: str, words: str) -> None:
    assert fault(code, f"Failed to open the file /secret/x, cause: {words}").wait is Reason.SPACE
    assert fault(code, "Failed to open the file /secret/x, cause: Is a directory").wait is None


def test_a_refused_rest_is_tried_as_it_is_before_it_is_fetched_anew() -> None:
    found = fault("22", "No URI available.")
    assert (found.cause, found.passing, found.anew) == (Cause.INTERRUPTED, True, True)


@pytest.mark.parametrize("text", ["Bencode decoding failed", "Missing pieces in torrent metainfo."])
def test_a_torrent_that_aria2_cannot_read_is_the_fault_of_its_source(text: str) -> None:
    assert (fault("1", text).cause, fault("1", text).passing) == (Cause.SOURCE, False)
