"""Putting a backup back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from worker.failpoints import Failpoints
from worker.jobs.errors import Rejected
from worker.maintenance.backup import files
from worker.maintenance.backup.durable import put, synced
from worker.maintenance.backup.faults import NotBackedUp, disk
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.manifest import Manifest, differences, read_manifest
from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.parts import Part, read_part
from worker.ports import Archive, Load, Table

#: What comes with a collection in any kind of store: the `.torrent` files that jobs name may have been let go since.
WITH: Mapping[str, tuple[str, ...]] = {"jobs": ("torrents",)}


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored.

    Attributes:
        tables: the collections, as they are now.
        kept: where the records that were there before are.
        files: what was written beside the records.
    """

    tables: tuple[Table, ...]
    kept: Path | None
    files: tuple[str, ...]


def chosen(manifest: Manifest, only: Collection[str]) -> tuple[Table, ...]:
    """The collections of a backup that are to be restored, and those they are no use without. Raises Rejected for one it does not have."""
    names = [table.name for table in manifest.tables]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise Rejected("only", f"{manifest.name} has no {', '.join(unknown)}", fix=f"it has {', '.join(names)}")
    asked = {*only, *(needed for name in only for needed in WITH.get(name, ()))}
    return tuple(table for table in manifest.tables if not only or table.name in asked)


def restore(
    directory: Path,
    key: Key | None,
    archive: Archive,
    pace: Pace,
    failpoints: Failpoints,
    *,
    only: Collection[str] = (),
    data_dir: Path | None = None,
    replace_files: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> Restored:
    """Put a backup in the place of the live records, of which nothing changes before all of it was loaded and found right.

    Whoever calls this keeps everybody else away from the store.

    Args:
        only: some collections, and no files.
        data_dir: of the installation; files of its engines go there when there are none, the others to its `restored`.
        replace_files: files of engines that are there are kept beside, and replaced.
        ready: called when all is loaded and right, before the live records are touched.

    Raises:
        Damaged: names the part; nothing was changed.
        NotBackedUp: what was loaded is not what was backed up, or the disk refused it; nothing was changed.
    """
    manifest = read_manifest(directory, key, sealed=True)
    wanted = chosen(manifest, only)
    tables = [table.name for table in wanted] if only else ()
    with disk(data_dir or directory), closing(archive.load(pace.spend, only=tables, wait=pace.wait)) as load:
        fill(directory, manifest, key, load, pace)
        pace.begin("comparing what was restored")
        found = load.settle()
        if wrong := differences(wanted, found):
            raise NotBackedUp(f"{manifest.name} does not come back as it was, and nothing was changed: {'; '.join(wrong)}")
        failpoints.hit("restore.loaded")
        ready()
        kept = load.commit()
        failpoints.hit("restore.committed")
    written: list[str] = []
    if data_dir is not None and not only:
        with disk(data_dir):
            written = _files(directory, manifest, key, data_dir, pace, replace=replace_files)
    return Restored(found, kept, tuple(written))


def fill(directory: Path, manifest: Manifest, key: Key | None, load: Load, pace: Pace) -> None:
    """Give a load the parts of a backup that it wants.

    Raises:
        Damaged, Rejected: as `read_part` and `Manifest.own`.
    """
    wanted = [part for part in manifest.parts if part.name != files.PART and load.wants(part.name)]
    pace.begin("restoring", sum(part.size for part in wanted))
    for part in wanted:
        load.take(part.name, plain(directory, manifest, part, key, pace))


def plain(directory: Path, manifest: Manifest, part: Part, key: Key | None, pace: Pace) -> Iterator[bytes]:
    """The bytes of a part; see `read_part`."""
    own = manifest.own(key)
    cipher = own.cipher(bytes.fromhex(manifest.salt), part.name) if own else None
    return read_part(manifest.path(directory, part), part, cipher, pace.spend)


def unpack(directory: Path, key: Key | None, target: Path, pace: Pace) -> list[str]:
    """Write the parts as plain files below a new directory: for MongoDB as mongodump does, for SQLite the database.

    Raises:
        Rejected: the directory is there and not empty.
        Damaged: names the part.
    """
    manifest = read_manifest(directory, key, sealed=True)
    if target.exists() and any(target.iterdir()):
        raise Rejected("unpack", f"{target} is not empty", fix="name a new directory")
    pace.begin("unpacking", manifest.size)
    written = []
    with disk(target):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in manifest.parts:
            chunks = plain(directory, manifest, part, key, pace)
            if part.name == files.PART:
                written += files.unpack(chunks, target / "files", None, replace=False)
                continue
            path = target / part.name
            put(path, chunks)
            synced(path.parent)
            written.append(str(path))
    return written


def _files(directory: Path, manifest: Manifest, key: Key | None, data_dir: Path, pace: Pace, *, replace: bool) -> list[str]:
    for part in manifest.parts:
        if part.name == files.PART:
            pace.begin("restoring files", part.size)
            target = data_dir / "restored"
            return files.unpack(plain(directory, manifest, part, key, pace), target, data_dir, replace=replace)
    return []
