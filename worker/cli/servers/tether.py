"""Runs a program that ends when its parent does: `python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT…]`.

The kernel remembers the wish across exec, and sends the signal when the *thread* that started this process ends. It is
a program of its own because code between fork and exec may deadlock in a process that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Ask for SIGTERM at the parent's end, then become the program."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(parent):  # else it ended before we could ask
        os.execv(command[0], command)  # noqa: S606 - the caller found the program; there is no shell


if __name__ == "__main__":
    main()
