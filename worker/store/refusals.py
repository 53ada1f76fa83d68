"""What no store of ours writes down, said in the same words by each."""

from __future__ import annotations

from worker.jobs.errors import Rejected
from worker.limits import RECORD_BYTES_MAX


def too_large() -> Rejected:
    """A record larger than `RECORD_BYTES_MAX`."""
    return Rejected("job", f"its record would be larger than {RECORD_BYTES_MAX >> 20} MiB", fix="send shorter texts")


def unwritable() -> Rejected:
    """A record with a value that a document cannot hold, such as a number of more than 64 bits."""
    return Rejected("job", "it holds a value that cannot be recorded", fix="send plain texts and numbers of at most 64 bits")
