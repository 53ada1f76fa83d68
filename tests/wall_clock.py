"""A wall clock that a test sets forward and back under programs that run; their monotonic clocks go on, as those of a machine do.

It is a library of ours (`wall_clock.c`) before the C library, so a program that is linked statically does not notice.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers import missing

SOURCE = Path(__file__).with_suffix(".c")
SECONDS = struct.Struct("q")


class WallClock:
    """One clock, set for all programs that have it.

    Args:
        directory: of its files.

    Attributes:
        environment: of programs that go by this clock.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._shift = directory / "shift"
        self._shift.write_bytes(SECONDS.pack(0))
        library = directory / "wall_clock.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            missing("a C compiler", "apt install gcc libc6-dev")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True, timeout=60)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "HAUL_TEST_CLOCK": str(self._shift)}

    def set(self, seconds: int) -> None:
        """Set it to so many seconds after the machine's, or before."""
        with self._shift.open("r+b") as file:
            file.write(SECONDS.pack(seconds))

    def under(self, program: Path) -> Path:
        """A program that starts this one under this clock."""
        script = self._directory / program.name
        settings = " ".join(f"{name}='{value}'" for name, value in self.environment.items())
        script.write_text(f"#!/bin/sh\nexec env {settings} '{program}' \"$@\"\n")
        script.chmod(0o755)
        return script
