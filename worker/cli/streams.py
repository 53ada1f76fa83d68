"""Standard streams that take whatever is written: closed ones, ones with a narrow encoding, and full ones."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Make the standard streams ones that can be written to, before anything else is opened; idempotent.

    A closed one becomes the null device, or the next file to be opened, say the records, would have its number and get what
    is printed. What its encoding cannot express is written with backslashes, so that no name of a file ends a command.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it is closed, and the lowest free number is given out first
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if not speaks_unicode() or getattr(sys.stdout, "errors", None) == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def speaks_unicode() -> bool:
    """True when stdout takes every character as it is."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def silence() -> None:
    """Drop what is still to be printed, so that the end of the process finds no fault in it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
