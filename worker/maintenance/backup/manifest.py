"""What a backup says of itself: `manifest.json`, readable without the key, and changed by nobody who does not have it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker.jobs.errors import Rejected
from worker.maintenance.backup.faults import Damaged, Unreadable
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.parts import Part
from worker.ports import Table

SCHEMA = 1
FILE = "manifest.json"
BYTES_MAX = 16 * 1024 * 1024
#: Behind the name of a part, so that no part is ever taken for the manifest.
SUFFIX = ".part"

_NAME = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^/\0]+(?:/[^/\0]+)*")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup.

    Attributes:
        name: of its directory; the time of its beginning, UTC.
        at: the same, seconds since the epoch.
        seconds: what it took to read and write it.
        haul: version of Haul.
        store: kind of store, `sqlite` or `mongodb`.
        consistent: `Dump.consistent`.
        key: id of the key; None for what is not encrypted.
        salt: hexadecimal; another one for each backup.
        parts: in the order in which they were written.
        tables: the records by collection.
        schema: of this file.
    """

    name: str
    at: float
    seconds: float
    haul: str
    store: str
    consistent: bool
    key: str | None
    salt: str
    parts: tuple[Part, ...]
    tables: tuple[Table, ...]
    schema: int = SCHEMA

    @property
    def size(self) -> int:
        """Bytes of the plain parts."""
        return sum(part.size for part in self.parts)

    @property
    def stored_size(self) -> int:
        """Bytes on the disk."""
        return sum(part.stored_size for part in self.parts)

    @property
    def sha256(self) -> str:
        """Of the whole: of the names and hashes of all parts."""
        return hashlib.sha256("".join(f"{part.sha256} {part.name}\n" for part in self.parts).encode()).hexdigest()

    @property
    def jobs(self) -> int:
        """How many jobs it holds."""
        return sum(table.documents for table in self.tables if table.name == "jobs")

    def path(self, directory: Path, part: Part) -> Path:
        """Where a part lies."""
        return directory / (part.name + SUFFIX)

    def own(self, key: Key | None) -> Key | None:
        """The key, when it is the one of this backup; None when none is needed.

        Raises:
            Rejected: it is another one, or missing.
        """
        if self.key is None:
            return None
        if key is None:
            raise Rejected("key", f"{self.name} is encrypted with the key {self.key}", fix="name its file in HAUL_BACKUP_KEY_FILE")
        if key.id != self.key:
            fix = "name the file of the right one in HAUL_BACKUP_KEY_FILE"
            raise Rejected("key", f"wrong key: {self.name} is encrypted with the key {self.key}, and this one is {key.id}", fix=fix)
        return key

    def text(self, key: Key | None) -> str:
        """What is written down, with the checksum of it, and with its seal when there is a key."""
        body = {**asdict(self), "size": self.size, "stored_size": self.stored_size, "sha256": self.sha256}
        plain = _canonical(body)
        body["checksum"] = hashlib.sha256(plain).hexdigest()
        body["seal"] = key.seal(bytes.fromhex(self.salt), plain) if key else None
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def read_manifest(directory: Path, key: Key | None = None, *, sealed: bool = False) -> Manifest:
    """The manifest of the backup in a directory.

    Args:
        sealed: check its seal, which needs the key.

    Raises:
        Damaged: it is missing, damaged, or was changed by somebody without the key; `Unreadable` when that cannot be told.
        Rejected: it is of another version; or `sealed`, and the key is missing or another one.
    """
    try:
        with (directory / FILE).open("rb") as file:
            body = json.loads(file.read(BYTES_MAX))
        if body["schema"] != SCHEMA:
            made = f"{directory.name} was made by another version of Haul ({str(body.get('haul'))[:40]})"
            raise Rejected("backup", made, fix="use that version")
        checksum, seal = body.pop("checksum"), body.pop("seal")
        if hashlib.sha256(_canonical(body)).hexdigest() != checksum:
            raise Damaged(FILE, "is not the one that was written")
        manifest = _read(body)
    except FileNotFoundError:
        raise Damaged(FILE, "is missing") from None
    except OSError as error:
        raise Unreadable(FILE, f"cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(FILE, "is not the one that was written") from None
    if sealed and (own := manifest.own(key)) and own.seal(bytes.fromhex(manifest.salt), _canonical(body)) != seal:
        raise Damaged(FILE, "was changed by somebody who does not have the key")
    return manifest


def _read(body: dict[str, Any]) -> Manifest:
    names = {name: body[name] for name in Manifest.__dataclass_fields__}
    parts = tuple(Part(**part) for part in body["parts"])
    if not all(_NAME.fullmatch(part.name) for part in parts):
        raise Damaged(FILE, "names a part outside of the backup")
    return Manifest(**{**names, "parts": parts, "tables": tuple(Table(**table) for table in body["tables"])})


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def differences(wanted: Sequence[Table], found: Sequence[Table]) -> list[str]:
    """What is not the same, in words."""
    there = {table.name: table for table in found}
    words = []
    for table in wanted:
        other = there.get(table.name)
        if other is None:
            words.append(f"{table.name} is missing")
        elif other.documents != table.documents:
            words.append(f"{table.name} has {other.documents} documents instead of {table.documents}")
        elif other.sha256 != table.sha256:
            words.append(f"{table.name} has another content")
        elif other.definition != table.definition:
            words.append(f"{table.name} has other indexes or options")
    return words
