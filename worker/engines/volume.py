"""The volume an engine and this process share."""

from __future__ import annotations

import errno
import os

from worker.jobs.directories import volume_of
from worker.jobs.states import Cause, Reason
from worker.ports import Fault

#: A full volume is waited out; nothing failed.
NO_SPACE = Fault(Cause.DISK, True, "there is no space left on the disk", wait=Reason.SPACE)


def unusable(directory: str) -> str | None:
    """Why this process cannot use an engine's volume, in words; None when it can."""
    if not os.path.isdir(directory):
        return f"{directory} is not there: mount the engine's volume at the same path, on each machine with a worker or a supervisor"
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return f"{directory} cannot be read and written to by user {os.geteuid()}: give worker, supervisor and engine a group in common"
    return None


def prepared(directory: str) -> Fault | None:
    """Make an order's directory, for the engine may run where it cannot. What lies on a volume that is not mounted would be lost."""
    volume = volume_of(directory)
    if not os.path.isdir(volume):
        return Fault(Cause.ENGINE, True, f"the volume {unusable(volume)}", elsewhere=True)
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
