"""The file of engines that HAUL_ENGINES_FILE names: an address a line, remarks behind `#`. Its errors name the line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker import logs
from worker.engines.registry import Address, read_addresses
from worker.notation.engines import read_lines
from worker.settings import EMBEDDED, SettingsError
from worker.stack import Stack

VARIABLE = "HAUL_ENGINES_FILE"
FILE_BYTES_MAX = 1 << 20

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the addresses leave open.

    Attributes:
        directory: the volume of engines without `dir`.
        slots: of engines without `slots`.
        data_dir: of the embedded stack, whose engines `embedded` stands for.
        connections: of one download to one host; None leaves it to the engine.
    """

    directory: Path
    slots: int
    data_dir: Path
    connections: int | None = None


def parse(path: Path, content: bytes, defaults: Defaults) -> dict[str, Address]:
    """The engines by name. Raises SettingsError, which names file, line, field and fix, and no secret."""
    where = f"{VARIABLE}: {path}"
    if len(content) > FILE_BYTES_MAX:
        raise SettingsError(f"{where} is longer than {FILE_BYTES_MAX} bytes: write one address a line")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SettingsError(f"{where}, line {line}: is not a text in UTF-8: save it as UTF-8") from None
    written = [pair for number, line in read_lines(text) for pair in _expanded(f"{where}, line {number}", line, defaults)]
    if not written:
        raise SettingsError(f"{where} names no engine: write one address a line; `haul engines drain` takes an engine out of work")
    return read_addresses(written, directory=defaults.directory, slots=defaults.slots, connections=defaults.connections, lasting=True)


def check_file(path: Path, defaults: Defaults) -> None:
    """Refuse to start with a file that cannot be read; raises SettingsError. Secrets that everybody may read are warned of."""
    try:
        found = parse(path, path.read_bytes(), defaults)
        remark = open_to_all(path, path.stat(), found.values())
    except OSError as error:
        raise SettingsError(f"{VARIABLE}: cannot read {path}: {error.strerror}") from None
    if remark:
        log.warning(remark)


def open_to_all(path: Path, status: os.stat_result, found: Iterable[Address]) -> str | None:
    """What is to be said of a file with secrets that everybody on this machine may read; None when all is well."""
    if status.st_mode & stat.S_IROTH and any(address.secret for address in found):
        return f"{VARIABLE}: {path} has secrets and everybody on this machine may read it: chmod o-r {path}"
    return None


def _expanded(where: str, address: str, defaults: Defaults) -> list[tuple[str, str]]:
    """The address with its place; `embedded` stands for the engines of the stack that runs."""
    if address != EMBEDDED:
        return [(where, address)]
    stack = Stack.load(defaults.data_dir)
    if stack is None:
        raise SettingsError(f"{where}: no stack is running on {defaults.data_dir}: start one with `haul up`, or name an engine")
    return [(where, one) for one in stack.engines]
