"""Is a backup what was written?"""

from __future__ import annotations

import contextlib
from pathlib import Path

from worker.maintenance.backup.catalogue import DAMAGED, Entry
from worker.maintenance.backup.faults import Damaged, Unreadable
from worker.maintenance.backup.key import Key
from worker.maintenance.backup.manifest import Manifest, read_manifest
from worker.maintenance.backup.pace import Pace
from worker.maintenance.backup.parts import check_stored, read_part


def verify(directory: Path, key: Key | None, pace: Pace) -> Manifest:
    """Read every part to its end: decrypted, decompressed, and compared with the manifest.

    Raises:
        Rejected: the key is missing or the wrong one; said before anything is read.
        Damaged: names the part.
    """
    manifest = read_manifest(directory, key, sealed=True)
    own = manifest.own(key)
    pace.begin("verifying", manifest.size)
    for part in manifest.parts:
        cipher = own.cipher(bytes.fromhex(manifest.salt), part.name) if own else None
        for _ in read_part(manifest.path(directory, part), part, cipher, pace.spend):
            pass
    return manifest


def verify_stored(directory: Path, pace: Pace) -> Manifest:
    """As `verify`, by the hashes of the files: needs no key, and does not show that the key would fit.

    Raises:
        Damaged: names the part.
    """
    manifest = read_manifest(directory)
    pace.begin("comparing", manifest.stored_size)
    for part in manifest.parts:
        check_stored(manifest.path(directory, part), part, pace.spend)
    return manifest


def judge(entry: Entry, key: Key | None, pace: Pace) -> Manifest:
    """Verify a backup of a directory and mark it: one that is damaged counts no more as good, one that is whole does again.

    Raises:
        Damaged, Rejected: as `verify`.
    """
    mark = entry.path / DAMAGED
    try:
        manifest = verify(entry.path, key, pace)
    except Damaged as error:
        if not isinstance(error, Unreadable):
            with contextlib.suppress(OSError):
                mark.write_text(f"{error}\n", encoding="utf-8")
        raise
    mark.unlink(missing_ok=True)
    return manifest
