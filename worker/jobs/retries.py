"""What follows a failure: by cause, how often and when it is tried again, and what its user can do; and what an HTTP status says.

The first half of the way, from an engine's words to a cause, is told by each engine (`faults.py` beside its adapter). Both
halves together are the page docs/failures.md, which is written from these tables.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from worker.jobs.states import Cause

#: New attempts of one job, whatever the causes, since its user last asked or it got further.
TRIES_MAX = 50
#: A server's wish to be left alone is followed so far.
RETRY_AFTER_MAX_S = 3_600.0
#: What was waited for in vain is tried again after this part of the time that was waited, then after twice that: peers come and go.
REST = 0.1
#: Tries of what only another engine can do, while that one does not answer.
ELSEWHERE_TRIES = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """What follows failures of one cause.

    Attributes:
        hint: what its user can do once it is given up.
        tries: new attempts while the fault may pass; each goes on from what is on the disk.
        first_s: to the first of them, and twice as long to each next, up to `max_s`; a part of it is random.
    """

    hint: str
    tries: int = 0
    first_s: float = 1.0
    max_s: float = 60.0

    def backoff_s(self, failures: int) -> float:
        """Seconds to the try after so many: exponential, the upper half of it random."""
        ceiling = min(self.max_s, self.first_s * 2.0 ** min(failures, 32))
        return ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


#: A refused or unknown host must end in seconds; a busy server gets four minutes, or what it asks for.
POLICIES: Mapping[Cause, Policy] = {
    Cause.NOT_FOUND: Policy("check the address, or ask for the file elsewhere"),
    Cause.FORBIDDEN: Policy("use a new link, or an address with a user name and password that the server accepts"),
    Cause.HTTP: Policy("try again later; if it stays so, use another address", tries=4),
    Cause.BUSY: Policy("try again when the server has calmed down", tries=8, max_s=300.0),
    Cause.UNREACHABLE: Policy("check the address; if it is right, try again later", tries=1),
    Cause.INTERRUPTED: Policy("try again: it goes on from what is on the disk", tries=5),
    Cause.STALLED: Policy("try again later: it goes on from what is on the disk", tries=2),
    Cause.METADATA: Policy("try again when somebody seeds it, or send the .torrent file", tries=2),
    Cause.UNSUPPORTED: Policy("ask for it from a source of another kind, or tell the operator"),
    Cause.CHECKSUM: Policy("check the checksum, or use another address", tries=1),
    Cause.INCOMPLETE: Policy("try again; if it stays so, tell the operator", tries=2),
    Cause.DISK: Policy("tell the operator what the disk said, then try again"),
    Cause.SOURCE: Policy("use another torrent, magnet link or metalink"),
    Cause.REFUSED: Policy("send a corrected request under another key"),
    Cause.WORKER: Policy("tell the operator; the log tells more"),
    Cause.ENGINE: Policy("try again; if it stays so, tell the operator", tries=5),
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an HTTP status says of a source.

    Attributes:
        passing: the same request may succeed later.
        anew: what is on the disk is of no use: from the start.
    """

    cause: Cause
    text: str
    passing: bool = False
    anew: bool = False


_TROUBLE = Meaning(Cause.HTTP, "the server has trouble", passing=True)
_NO_ORIGIN = Meaning(Cause.HTTP, "the server in front does not reach the one behind", passing=True)

STATUSES: Mapping[int, Meaning] = {
    401: Meaning(Cause.FORBIDDEN, "the server wants a user name and password, or other ones"),
    403: Meaning(Cause.FORBIDDEN, "the server refuses access"),
    404: Meaning(Cause.NOT_FOUND, "the server says there is no such file"),
    407: Meaning(Cause.FORBIDDEN, "a proxy wants a user name and password"),
    408: Meaning(Cause.HTTP, "the server did not wait for the request", passing=True),
    410: Meaning(Cause.NOT_FOUND, "the server says the file is gone for good"),
    416: Meaning(Cause.HTTP, "the server's file ends before what is on the disk", anew=True),
    425: Meaning(Cause.BUSY, "the server says it is too early", passing=True),
    429: Meaning(Cause.BUSY, "the server says there are too many requests", passing=True),
    451: Meaning(Cause.FORBIDDEN, "the server withholds the file for legal reasons"),
    500: _TROUBLE,
    502: _NO_ORIGIN,
    503: Meaning(Cause.BUSY, "the server is overloaded or under maintenance", passing=True),
    504: _NO_ORIGIN,
    509: Meaning(Cause.BUSY, "the server has used up its bandwidth", passing=True),
    **dict.fromkeys(range(520, 528), _NO_ORIGIN),
}
OTHER_STATUS = Meaning(Cause.HTTP, "the server did not answer with the file")


def answered(status: int) -> Meaning:
    """What a status says, with the status in its text."""
    known = STATUSES.get(status, OTHER_STATUS)
    return Meaning(known.cause, f"{known.text} (status {status})", known.passing, known.anew)


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds of a `Retry-After` header, in seconds or as a date, at most `RETRY_AFTER_MAX_S`; None when there is none to read.

    Args:
        now: wall clock.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), RETRY_AFTER_MAX_S)


def spread(seconds: float) -> float:
    """The same, and up to a tenth more, so that those who were told one time do not all come at it."""
    return seconds * (1 + random.random() / 10)  # noqa: S311 - spreads load, guards nothing


def span(seconds: float) -> str:
    """A length of time in words: `40 s`, `12 min`, `3 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3600:.0f} h"
