"""Making a backup: read, written under a hidden name, read back, named, copied."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from worker.failpoints import Failpoints
from worker.jobs.errors import HaulError
from worker.maintenance.backup import files
from worker.maintenance.backup.catalogue import COPYING, MAKING, Entry, Shelf
from worker.maintenance.backup.durable import synced
from worker.maintenance.backup.faults import NotBackedUp, disk
from worker.maintenance.backup.key import SALT_BYTES, Key
from worker.maintenance.backup.manifest import FILE, SUFFIX, Manifest
from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.parts import Part, write_part
from worker.maintenance.backup.place import Place
from worker.maintenance.backup.verify import verify, verify_stored
from worker.ports import Archive, Table
from worker.ports.dump import Overtaken
from worker.settings import Settings

#: What the shelf notes of the last try.
LAST = "last"


def create(settings: Settings, archive: Archive, place: Place, pace: Pace, failpoints: Failpoints) -> Entry:
    """Make one backup, and its copy when a second directory is set; the shelf has to be held.

    It has its name, and so exists, only once it was read back and found to be what was read from the store.

    Raises:
        Rejected, Transient, Failed: it could not be made; nothing of it is left.
        NotBackedUp: as above; or it was made and could not be copied, which the message says.
    """
    shelf, at = place.shelf, time.time()
    name = shelf.fresh_name(at)
    with _told(shelf, name), disk(shelf.directory):
        making = shelf.begun(MAKING, name)
        try:
            try:
                _write(making, name, at, settings, archive, place.key, pace, failpoints)
            except Overtaken:
                shutil.rmtree(making)
                making = shelf.begun(MAKING, name)
                _write(making, name, at, settings, archive, place.key, pace, failpoints)
            failpoints.hit("backup.written")
            verify(making, place.key, pace)
            failpoints.hit("backup.verified")
            shelf.finished(making, name)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        failpoints.hit("backup.named")
    if place.copy:
        with _told(shelf, name), place.copy.held():
            copy(shelf.find(name), place.copy, pace, failpoints)
    return shelf.find(name)


def copy(entry: Entry, shelf: Shelf, pace: Pace, failpoints: Failpoints) -> None:
    """Copy a backup to another shelf, which has to be held; by the same rules.

    Raises:
        NotBackedUp: it could not be copied; nothing of the copy is left.
    """
    there = shelf.directory / entry.name
    with disk(shelf.directory):
        if there.exists():
            if (there / FILE).read_bytes() == (entry.path / FILE).read_bytes():
                return
            raise NotBackedUp(f"{there} is another backup, of another installation; name a directory of its own in HAUL_BACKUP_COPY_DIR")
        copying = shelf.begun(COPYING, entry.name)
        try:
            manifest = entry.manifest
            if manifest is None:
                raise NotBackedUp(f"{entry.path} cannot be copied: {entry.damaged}")
            pace.begin("copying", manifest.stored_size)
            for part in manifest.parts:
                _copy_file(manifest.path(entry.path, part), manifest.path(copying, part), pace)
                failpoints.hit("backup.copying")
            _copy_file(entry.path / FILE, copying / FILE, pace)
            verify_stored(copying, pace)
            failpoints.hit("backup.copied")
            shelf.finished(copying, entry.name)
        except BaseException:
            shutil.rmtree(copying, ignore_errors=True)
            raise


def _write(
    making: Path, name: str, at: float, settings: Settings, archive: Archive, key: Key | None, pace: Pace, failpoints: Failpoints
) -> None:
    begun, salt = time.monotonic(), secrets.token_bytes(SALT_BYTES)
    parts: list[Part] = []

    def write(part: str, chunks: Iterator[bytes]) -> None:
        cipher = key.cipher(salt, part) if key else None
        parts.append(write_part(making / (part + SUFFIX), part, chunks, cipher, pace.spend))
        failpoints.hit("backup.part")

    pace.begin("reading the records")
    with closing(archive.dump(making, pace.spend, pace.wait)) as dump:
        pace.begin("writing the backup", dump.size)
        for part, chunks in dump.parts():
            write(part, chunks)
        tables: tuple[Table, ...] = dump.tables()
        consistent = dump.consistent
    write(files.PART, files.packed(settings, secrets=key is not None))
    manifest = Manifest(
        name=name,
        at=at,
        seconds=round(time.monotonic() - begun, 3),
        haul=version("haul"),
        store=archive.kind,
        consistent=consistent,
        key=key.id if key else None,
        salt=salt.hex(),
        parts=tuple(parts),
        tables=tables,
    )
    path = making / FILE
    path.write_text(manifest.text(key), encoding="utf-8")
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    for directory in {part.parent for part in making.rglob("*")}:
        synced(directory)


def _copy_file(source: Path, target: Path, pace: Pace) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("xb") as written:
        target.chmod(0o600)
        while piece := read.read(files.READ_BYTES):
            written.write(piece)
            pace.spend(len(piece))
        written.flush()
        os.fsync(written.fileno())
    synced(target.parent)


@contextlib.contextmanager
def _told(shelf: Shelf, name: str) -> Iterator[None]:
    """Write down how it went: what prunes looks whether the last try failed."""
    try:
        yield
    except HaulError as error:
        with contextlib.suppress(OSError):
            shelf.note(LAST, {"ok": False, "name": name, "error": str(error)})
        raise
    with disk(shelf.directory):
        shelf.note(LAST, {"ok": True, "name": name})
