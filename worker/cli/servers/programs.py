"""Where the program of a server is: the setting, then PATH, then a wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path


class ServerMissing(Exception):
    """A program is neither set, nor installed, nor in a wheel; the message names the package to install."""


def find(what: str, chosen: str | None, variable: str, names: tuple[str, ...], wheel: Path | None, package: str) -> Path:
    """The program to run: the one chosen by the setting, then the first name on PATH, then that of the wheel. Raises ServerMissing."""
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise ServerMissing(f"{variable}: {chosen} is not a program that can be run")
        return Path(found).absolute()
    # The wheel puts a slow Python wrapper beside our own interpreter; the real program is looked up in the wheel below.
    own = Path(sys.prefix, "bin").resolve()
    path = os.pathsep.join(d for d in os.environ.get("PATH", os.defpath).split(os.pathsep) if d and Path(d).resolve() != own)
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found:
        return Path(found).absolute()
    if wheel:
        return wheel
    raise ServerMissing(f"{what} is not installed: install the package {package}, or set {variable} to the program")


def in_wheel(module: str, inside: str) -> Path | None:
    """The program inside an installed wheel, if it is there and can be run."""
    spec = importlib.util.find_spec(module)
    program = Path(spec.origin).parent / inside if spec and spec.origin else None
    return program if program and os.access(program, os.X_OK) else None
