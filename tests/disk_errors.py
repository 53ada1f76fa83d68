"""A disk that fails as a test wants it to: to open a file named `error-5.bin` fails with the system's error 5.

It is a library of ours (`disk_errors.c`) before the C library, so a program that is linked statically does not notice.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.servers import missing

SOURCE = Path(__file__).with_suffix(".c")


def on_a_broken_disk(program: Path, directory: Path) -> Path:
    """A program that starts this one on such a disk."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        missing("a C compiler", "apt install gcc libc6-dev")
    library, script = directory / "disk_errors.so", directory / program.name
    subprocess.run([str(compiler), "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True, timeout=60)
    script.write_text(f"#!/bin/sh\nexec env LD_PRELOAD='{library}' '{program}' \"$@\"\n")
    script.chmod(0o755)
    return script
