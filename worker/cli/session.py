"""What aria2 begins with by itself when it is started again, and when it had better not."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

#: How a program dies of what it does, and not of what is done to it.
FAULTS = frozenset({signal.SIGFPE, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL})


def forget_after_fault(directory: Path, returncode: int | None) -> bool:
    """Empty the session of an aria2 that died of a fault of its own; true when it did.

    What it died of may stand in there: it would die again at each start, sooner than it can be told to leave it. Whatever it is to
    do is handed over anew from the records, and goes on from what is on the disk; only what it seeded is not seeded any more.
    """
    if returncode is None or -returncode not in FAULTS:
        return False
    with contextlib.suppress(FileNotFoundError), (directory / "aria2.session").open("r+b") as session:
        session.truncate(0)
    return True
