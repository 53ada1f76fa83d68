"""Verification: what the engine called complete is compared with the disk, and with the checksum that was given."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.delivery import place
from worker.jobs.directories import ONE_FILE, WORK, has_hole, volume_of
from worker.jobs.errors import Failed, Transient
from worker.jobs.model import Job
from worker.jobs.states import Cause
from worker.ports import FoundFile, Services


def silent_engines(services: Services) -> Mapping[str, str]:
    """What is wrong with engines that do not answer, as their owners say; one question to Redis, for a batch of jobs."""
    return {name: seen.error.removeprefix(f"engine {name}: ") for name, seen in services.coordinator.snapshots().items() if seen.error}


def files(services: Services, job: Job, silent: Mapping[str, str]) -> tuple[FoundFile, ...]:
    """The complete files of a job, in its work directory.

    Args:
        silent: engines that are not asked, for each job that waited for one would hold up the jobs of others, and each process
            that tries a password that is wrong brings a ban nearer.

    Raises:
        Failed: cause INCOMPLETE when the disk does not hold what the engine said.
        Transient: the engine does not answer, or is one of the silent.
    """
    assert job.transfer is not None, f"job {job.id} has no transfer"
    only = _only_file(job.transfer.directory) if job.source.kind in ONE_FILE else None
    expected = job.progress.total if job.transfer.size is None else job.transfer.size
    if only is not None and only.size == expected:
        return (only,)
    name = job.transfer.engine
    if not os.path.isdir(os.path.join(volume_of(job.transfer.directory), WORK)):
        raise Transient(f"engine {name}", f"this process does not see {volume_of(job.transfer.directory)}: mount it here at the same path")
    if name in silent:
        raise Transient(f"engine {name}", silent[name])
    if (engine := services.engines.get(name)) is None:
        raise Transient(f"engine {name}", "it is not set up any more")
    found = engine.files(engine.handle(job.transfer.id, job.transfer.attempt))
    for file in found:
        if not os.path.isfile(file.path) or os.path.getsize(file.path) != file.size:
            raise Failed(Cause.INCOMPLETE, f"{os.path.basename(file.path)} is not complete on disk")
    if not found:
        raise Failed(Cause.INCOMPLETE, "the engine says it is complete and names no file")
    return tuple(found)


def _only_file(directory: str) -> FoundFile | None:
    """The file that is all there is in a directory, every byte of it written; spares a question to the engine.

    A file that was allocated at full size has its size from the start, and proves nothing by it.
    """
    try:
        with os.scandir(directory) as entries:
            found = list(entries)
    except FileNotFoundError:
        return None
    file = found[0] if len(found) == 1 and found[0].is_file(follow_symlinks=False) else None
    return FoundFile(file.path, file.stat().st_size) if file and not has_hole(file.path) else None


def digest(job: Job, found: tuple[FoundFile, ...], beat: Callable[[], None]) -> str | None:
    """The SHA-256 when the job asks for it, compared with the one it gives.

    Args:
        beat: called after each block that is read.

    Raises:
        Failed: cause CHECKSUM.
    """
    if not (job.sha256 or job.hash_wanted):
        return None
    if len(found) > 1:
        raise Failed(Cause.CHECKSUM, "a SHA-256 checks one file, and this is several")
    computed = place.sha256(Path(found[0].path), beat)
    if job.sha256 and computed != job.sha256:
        raise Failed(Cause.CHECKSUM, f"the checksum is {computed} and should be {job.sha256}")
    return computed
