"""The opaque cursor of a page: the place of its last job in the order of recording."""

from __future__ import annotations

import base64
import binascii

from worker.jobs.errors import Rejected

#: The place no job reaches: the largest integer of both kinds of store.
SEQ_MAX = 2**63 - 1


def cursor_of(seq: int) -> str:
    """The cursor of the page after the job with this seq."""
    return base64.urlsafe_b64encode(f"seq:{seq}".encode()).decode().rstrip("=")


def seq_of(cursor: str) -> int:
    """The inverse of `cursor_of`. Raises Rejected for what is not one of ours."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        seq = int(text.removeprefix("seq:"))
    except (binascii.Error, ValueError):
        seq = 0
    if not 0 < seq <= SEQ_MAX or cursor_of(seq) != cursor:
        raise Rejected("cursor", "is not one of ours", fix="start without one, then send the one the last page gave")
    return seq
