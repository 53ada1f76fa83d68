"""Verification: what the engine called complete is compared with the disk, and with the checksum that was given."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from worker.delivery import place
from worker.jobs.errors import Failed
from worker.jobs.model import Job, SourceKind
from worker.jobs.states import Cause
from worker.ports import FoundFile, Services

#: Kinds whose work directory holds the one file and nothing else.
ONE_FILE = frozenset({SourceKind.HTTP, SourceKind.FTP})
CONTROL_SUFFIX = ".aria2"
BEAT_S = 10.0


def files(services: Services, job: Job) -> tuple[FoundFile, ...]:
    """The complete files of a job, in its work directory.

    Raises:
        Failed: cause INCOMPLETE when the disk does not hold what the engine said.
    """
    assert job.transfer is not None, f"job {job.id} has no transfer"
    if job.source.kind in ONE_FILE:
        return _one_file(job, job.transfer.directory)
    engine = services.engines[job.transfer.engine]
    found = engine.files(engine.handle(job.transfer.id, job.transfer.attempt))
    for file in found:
        if not os.path.isfile(file.path) or os.path.getsize(file.path) != file.size:
            raise Failed(Cause.INCOMPLETE, f"{os.path.basename(file.path)} is not complete on disk")
    if not found:
        raise Failed(Cause.INCOMPLETE, "the engine says it is complete and names no file")
    return tuple(found)


def _one_file(job: Job, directory: str) -> tuple[FoundFile, ...]:
    entries, expected = _on_disk(directory), job.progress.total
    if any(entry.path.endswith(CONTROL_SUFFIX) for entry in entries):
        raise Failed(Cause.INCOMPLETE, "the engine says it is complete and its control file is still there")
    if len(entries) != 1:
        raise Failed(Cause.INCOMPLETE, f"the work directory holds {len(entries)} files where one was expected")
    if expected is not None and entries[0].size != expected:
        raise Failed(Cause.INCOMPLETE, f"the file has {entries[0].size} bytes and should have {expected}")
    return tuple(entries)


def _on_disk(directory: str) -> list[FoundFile]:
    try:
        with os.scandir(directory) as entries:
            return [FoundFile(e.path, e.stat().st_size) for e in entries if e.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def left(services: Services, job: Job) -> tuple[FoundFile, ...]:
    """What is still in the work directory of a job whose move had begun; nothing when all of it is in place."""
    assert job.transfer is not None, f"job {job.id} has no transfer"
    if job.source.kind in ONE_FILE:
        return tuple(_on_disk(job.transfer.directory))
    try:
        return files(services, job)
    except Failed:
        return ()


def digest(job: Job, found: tuple[FoundFile, ...], alive: Callable[[], object]) -> str | None:
    """The SHA-256 when the job asks for it, compared with the one it gives.

    Args:
        alive: called every few seconds while a large file is read.

    Raises:
        Failed: cause CHECKSUM.
    """
    if not (job.sha256 or job.hash_wanted):
        return None
    if len(found) > 1:
        raise Failed(Cause.CHECKSUM, "a SHA-256 checks one file, and this is several")
    computed = place.sha256(Path(found[0].path), _Beat(alive))
    if job.sha256 and computed != job.sha256:
        raise Failed(Cause.CHECKSUM, f"the checksum is {computed} and should be {job.sha256}")
    return computed


class _Beat:
    """Calls something at most every few seconds, however often it is called itself."""

    def __init__(self, action: Callable[[], object], every_s: float = BEAT_S) -> None:
        self._action = action
        self._every_s = every_s
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._action()
