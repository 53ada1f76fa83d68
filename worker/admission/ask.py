"""A source is asked what it has, before anything of it is downloaded: its size and its validators."""

from __future__ import annotations

import re

import requests

from worker.admission.line import Line, Networks, Refused, fault_of, refusal
from worker.jobs.probe import Probe
from worker.jobs.states import Cause
from worker.ports import Fault

#: For both questions; what a system's resolver takes for a name comes on top.
DEADLINE_S = 4.0
#: Statuses of servers that know no HEAD, or whose signed links are good for GET alone.
NO_HEAD = frozenset({400, 403, 405, 501})
#: What is announced beyond this counts as this much, which fits nowhere: aria2 dies of such a length, with all it has at work.
SIZE_MAX, DIGITS_MAX = 2**60, 18
VALIDATOR_CHARACTERS_MAX = 256

_LATE = Fault(Cause.UNREACHABLE, True, f"the server did not answer within {DEADLINE_S:g} s")
_STRONG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_PLAIN = re.compile(r"[\x20-\x7e]+")
_OF_ALL = re.compile(r"bytes \d+-\d+/(\d+)", re.ASCII)


def ask(uri: str, allowed: Networks | None) -> tuple[Probe, Fault | None]:
    """What an http or https source says of its content, and why it said nothing, if it did not.

    A source that asks to be left alone, with or without a time, is a fault of cause BUSY.

    HEAD, and where that is refused or says no size, GET for the first byte, whose body is not read. Whatever fails makes a
    size that is not known, no more: the download will tell. But what leads where the job may not go is Cause.REFUSED.

    Args:
        uri: a user and a password in it are sent, to this host only.
        allowed: networks that may be reached although they are private; None lets any address pass.
    """
    with Line(allowed, DEADLINE_S, _LATE, ahead=True) as line:
        try:
            with line.opened("HEAD", uri) as answer:
                status, said = answer.status_code, _said(answer)
                if (busy := refusal(answer)).cause is Cause.BUSY:
                    return Probe(), busy
            if said.size is None and (status == 200 or status in NO_HEAD):
                with line.opened("GET", uri, {"Range": "bytes=0-0"}) as answer:
                    said = _said(answer)
        except Refused as refused:
            return Probe(), refused.fault
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
            return Probe(), _LATE if line.late else fault
    return said, None


def _said(answer: requests.Response) -> Probe:
    """What an answer says of the whole content; nothing unless it is one that brings it."""
    headers = answer.headers
    if answer.status_code not in (200, 206) or headers.get("Content-Encoding", "identity") != "identity":
        return Probe()
    if answer.status_code == 206:
        match = _OF_ALL.fullmatch(headers.get("Content-Range", ""))
        size = _bytes(match[1]) if match else None
    else:
        size = _bytes(headers.get("Content-Length", "")) or None  # programs that know no HEAD say 0, and what is empty needs no space
    etag, modified = headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()
    return Probe(
        size,
        etag if len(etag) <= VALIDATOR_CHARACTERS_MAX and _STRONG.fullmatch(etag) else None,
        modified if len(modified) <= VALIDATOR_CHARACTERS_MAX and _PLAIN.fullmatch(modified) else None,
    )


def _bytes(text: str) -> int | None:
    """A length as it came; None for what is none."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= DIGITS_MAX else SIZE_MAX
