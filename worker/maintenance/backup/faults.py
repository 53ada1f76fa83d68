"""What can be wrong with a backup."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.jobs.errors import Failed
from worker.jobs.states import Cause


class Damaged(Failed):
    """A part of a backup is not what was written.

    Attributes:
        part: its name.
    """

    def __init__(self, part: str, why: str) -> None:
        super().__init__(Cause.CHECKSUM, f"the part {part} {why}")
        self.part = part
        self.why = why


class Unreadable(Damaged):
    """A part cannot be read here and now, as for want of permission or of a connection: nothing is held against it."""


class NotBackedUp(Failed):
    """A backup, a copy or a restore could not be made; the message says why and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(Cause.DISK, message)


@contextmanager
def disk(directory: Path) -> Iterator[None]:
    """Whatever the disk refuses is said in words. Raises NotBackedUp."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        words = "the disk is full; free some space, or name another directory" if full else f"the disk refused it: {error.strerror}"
        raise NotBackedUp(f"{directory}: {words}") from error
