"""The volume an engine and this process share."""

from __future__ import annotations

import errno
import os

from worker.jobs.states import Cause, Reason
from worker.ports import Fault

#: A full volume is waited out; nothing failed.
NO_SPACE = Fault(Cause.DISK, True, "there is no space left on the disk", wait=Reason.SPACE)


def prepared(directory: str) -> Fault | None:
    """Make an order's directory, for the engine may run where it cannot."""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NO_SPACE
        return Fault(Cause.DISK, False, f"the work directory cannot be made: {error.strerror}", elsewhere=True)
    return None


def free_bytes(directory: str) -> int | None:
    """Room for us on the volume; None when it cannot be told."""
    try:
        volume = os.statvfs(directory)
    except OSError:
        return None
    return volume.f_bavail * volume.f_frsize
