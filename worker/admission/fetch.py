"""Small documents fetched by us, over HTTP: within bounds, and for a guarded job from permitted addresses only."""

from __future__ import annotations

import requests

from worker.admission.line import Line, Networks, Refused, fault_of, refusal
from worker.jobs.states import Cause
from worker.ports import Fault

#: For everything; what a system's resolver takes for a name comes on top.
DEADLINE_S = 20.0
CHUNK_BYTES = 65_536

_LATE = Fault(Cause.UNREACHABLE, True, f"the server did not send the file within {DEADLINE_S:g} s")


def fetch(uri: str, bytes_max: int, allowed: Networks | None) -> bytes | Fault:
    """The body at an http or https address, or why it could not be had; the words hold neither address nor password.

    Args:
        uri: a user and a password in it are sent, to this host only.
        bytes_max: of the body.
        allowed: networks that may be reached although they are private; None lets any address pass.
    """
    with Line(allowed, DEADLINE_S, _LATE) as line:
        try:
            with line.opened("GET", uri) as answer:
                return _body(line, answer, bytes_max)
        except Refused as refused:
            return refused.fault
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
            return _LATE if line.late else fault


def _body(line: Line, answer: requests.Response, bytes_max: int) -> bytes:
    if answer.status_code != 200:
        raise Refused(refusal(answer))
    body = bytearray()
    while piece := answer.raw.read1(CHUNK_BYTES, decode_content=True):
        body += piece
        if len(body) > bytes_max:
            raise Refused(Fault(Cause.SOURCE, False, f"the server sent more than {bytes_max} bytes"))
        line.left()
    line.left()  # a connection that we hung up looks like the end of the body
    return bytes(body)
