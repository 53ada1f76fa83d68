"""The step `finish`: verify, put in place, record `done`, tidy. Each part can be run twice; a crash in between loses nothing.

The work directory keeps its files until `done` is recorded, so every part finds again what it began with.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from worker import logs, sharing, tries, waiting
from worker.delivery import outcomes, place, verify
from worker.delivery.names import safe_name, safe_paths
from worker.jobs.directories import delete_work, is_spent, standing, volume_of
from worker.jobs.errors import Failed, Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job, Result
from worker.jobs.states import Cause, State, Want
from worker.ports import Change, FoundFile, Services, Step

#: A finish that takes longer (a checksum, a copy) keeps its claim by renewing it between blocks. After a crash nobody
#: finishes what was claimed for so long.
CLAIM_S = 20.0
BEAT_S = 5.0
QUICK = "quick"
SUSPECTS = "suspects"
SYNC_THREADS = 8
#: The file system may take it later; nothing is given up for them.
PASSING_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.ENOLCK, errno.ESTALE, errno.EMFILE, errno.ENFILE})

#: A job that is done has nothing left to say of what went wrong before.
_SETTLED: Mapping[str, Any] = {"message": None, "avoid": (), "tried": ()}

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A job on its way into place: its files in the work directory, and where the first of them goes."""

    job: Job
    files: tuple[FoundFile, ...]
    result: Result


def finish(services: Services, limit: int) -> int:
    """Finish jobs whose bytes are all here, `limit` at a time; returns how many ended.

    What only has to be renamed goes in one batch under one claim. What takes as long as its bytes (a checksum, a copy to
    another file system) goes one by one, each under a claim of its own, so that several processes share the work.
    """
    holder, ended, after = f"{services.owner}/{threading.get_ident()}", 0, None
    while page := services.store.in_state(State.FINISHING, limit, after=after):
        after = page[-1].id
        wanted = [job for job in page if job.want is not Want.CANCEL]
        slow = [job for job in wanted if _takes_long(job)]
        quick = [job for job in wanted if job not in slow]
        ended += _finish_claimed(services, QUICK, quick, holder) if quick else 0
        ended += sum(_finish_claimed(services, job.id, [job], holder) for job in slow)
    return ended


def _takes_long(job: Job) -> bool:
    return bool(job.sha256 or job.hash_wanted) or (
        job.out is not None and job.transfer is not None and _apart(job.transfer.directory, job.out)
    )


def _apart(work: str, out: str) -> bool:
    """True when a move from one to the other is a copy."""
    try:
        return os.stat(work).st_dev != standing(out).stat().st_dev
    except OSError:
        return False


def _finish_claimed(services: Services, claim: str, jobs: list[Job], holder: str) -> int:
    with _claimed(services, claim, holder) as beat:
        if beat is None:
            return 0
        with tries.together(services, Step.FINISH, [job.id for job in jobs]) as deaths:
            ended = _finish_all(services, [job for job in jobs if job.id not in deaths], beat)
    suspects = sorted((job for job in jobs if job.id in deaths), key=lambda job: deaths[job.id])
    return ended + sum(_finish_suspect(services, job, holder) for job in suspects)


def _finish_suspect(services: Services, job: Job, holder: str) -> int:
    """Finish a job that a process died with, while nobody finishes another one of them."""
    with _claimed(services, SUSPECTS, holder) as beat:
        if beat is None:
            return 0
        with tries.alone(services, Step.FINISH, job.id) as hopeful:
            if hopeful:
                return _finish_all(services, [job], beat)
            message = tries.given_up(services, Step.FINISH, job.id, "it checked the job and moved it into place")
            return _recorded(services, [Change(job, _failed(services, job, Cause.WORKER, message))])


@contextlib.contextmanager
def _claimed(services: Services, name: str, holder: str) -> Iterator[Callable[[], None] | None]:
    """Hold a claim; yields what keeps it, to be called often by what takes long, or None when somebody else holds it."""
    claim, last = f"finish:{name}", time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last >= BEAT_S:
            last = time.monotonic()
            with contextlib.suppress(Transient):  # the claim saves double work, and nothing more
                services.coordinator.claim(claim, holder, CLAIM_S)

    if not services.coordinator.claim(claim, holder, CLAIM_S):
        yield None
        return
    try:
        yield beat
    finally:
        services.coordinator.unclaim(claim, holder)


def _finish_all(services: Services, jobs: list[Job], beat: Callable[[], None]) -> int:
    silent = verify.silent_engines(services) if jobs else {}
    packed = [_packed(services, job, silent, beat) for job in jobs]
    failures = [entry for entry in packed if isinstance(entry, Change)]
    parcels = _intended(services, [entry for entry in packed if isinstance(entry, Parcel)])
    services.failpoints.hit("finish.intended")
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        moves = list(pool.map(lambda parcel: _moved(services, parcel, beat), parcels))
    services.failpoints.hit("finish.moved")
    changes = [change for change in moves if change is not None]
    sharing.join(services, [change.old for change in changes if change.new.state is State.DONE])
    return _recorded(services, [*failures, *changes])


def _recorded(services: Services, changes: list[Change]) -> int:
    applied = services.store.apply(changes) if changes else []
    services.failpoints.hit("finish.recorded")
    written = [(change.old, a.job) for change, a in zip(changes, applied, strict=True) if a.won and a.job is not None]
    ended = [(old, job) for old, job in written if job.terminal]
    dropped = [(old, job) for old, job in written if not job.terminal and job.transfer is None and not outcomes.is_guest(old)]
    needed = sharing.let_go(services, [(old.transfer, job) for old, job in [*ended, *dropped] if old.transfer is not None])
    for old, job in ended:
        _tidy(services, old, job, needed)
    for old, _ in dropped:  # not what was asked for: it is fetched anew
        _delete(services, old, needed)
    waiting.enlist(services, [a.job for a in applied if a.won and a.job is not None and a.job.state is State.QUEUED])
    if ended:
        services.nudger.nudge(Step.NOTIFY)
    return len(ended)


# ---- verify ----------------------------------------------------------------------------------------------------


def _packed(services: Services, job: Job, silent: Mapping[str, str], beat: Callable[[], None]) -> Parcel | Change | None:
    """The verified job, its failure, or None when it cannot be said now."""
    services.failpoints.hit("finish.begun", job.id)
    try:
        files = verify.files(services, job, silent)
        digest = verify.digest(job, files, beat)
        path = job.result.path if job.result else str(_place_for(job, files))  # what was begun goes on there
        return Parcel(job, files, Result(path, sum(file.size for file in files), digest))
    except Failed as error:
        return Change(job, outcomes.unverified(job, Cause(error.cause), str(error), services.clock.time()))
    except (Transient, OSError) as error:
        log.warning("a job cannot be verified now; it is tried again", job=job.id, error=str(error))
        return None
    except Exception as error:
        return _faulty(services, job, error)


# ---- move ------------------------------------------------------------------------------------------------------


def _place_for(job: Job, files: tuple[FoundFile, ...]) -> Path:
    assert job.transfer is not None, f"job {job.id} has no transfer"
    directory = Path(job.out or os.path.join(volume_of(job.transfer.directory), job.id))
    root = _root(files, Path(job.transfer.directory))
    if len(files) == 1:
        found = Path(files[0].path).name
    elif root != Path(job.transfer.directory):
        found = root.name
    else:  # files side by side, as a metalink has them: the directory is called as the document is
        found = PurePosixPath(unquote(urlsplit(job.source.uri).path)).stem
    return place.free_place(directory, job.name or safe_name(found))


def _root(files: tuple[FoundFile, ...], work: Path) -> Path:
    """The directory whose entries are put in place: where the one file lies, or what the files have in common at the top."""
    if len(files) == 1:
        return Path(files[0].path).parent
    tops = {Path(file.path).relative_to(work).parts[0] for file in files}
    return work / tops.pop() if len(tops) == 1 else work


def _intended(services: Services, parcels: list[Parcel]) -> list[Parcel]:
    """Write down where each goes before anything is moved; those that were changed meanwhile are left out."""
    at = services.clock.time()
    new = [parcel for parcel in parcels if parcel.job.result != parcel.result]
    applied = services.store.apply([Change(p.job, p.job.noted(at, result=p.result)) for p in new]) if new else []
    won = [replace(p, job=a.job) for p, a in zip(new, applied, strict=True) if a.won and a.job is not None]
    return [*won, *(parcel for parcel in parcels if parcel.job.result == parcel.result)]


def _moved(services: Services, parcel: Parcel, beat: Callable[[], None]) -> Change | None:
    job, result = parcel.job, parcel.result
    try:
        place.sync_files([Path(file.path) for file in parcel.files])
        place.put(_pieces(parcel), beat)
    except place.Taken:
        target = Path(result.path)
        moved_on = replace(result, path=str(place.free_place(target.parent, target.name)))
        return Change(job, job.noted(services.clock.time(), "the name was taken meanwhile", result=moved_on))
    except OSError as error:
        if outcomes.is_guest(job) and not all(os.path.exists(file.path) for file in parcel.files):
            return Change(job, outcomes.alone(job, "its files are gone", services.clock.time()))
        return _refused(services, job, error)
    except Exception as error:
        return _faulty(services, job, error)
    data = {"path": result.path, "size": result.size, "sha256": result.sha256}
    text = f"in place: {result.path}"
    return Change(job, job.moved(State.DONE, services.clock.time(), text, event=EventType.COMPLETED, data=data, **_SETTLED))


def _refused(services: Services, job: Job, error: OSError) -> Change | None:
    if error.errno in PASSING_ERRORS:
        log.warning("a job cannot be moved into place now; it is tried again", job=job.id, error=error.strerror)
        words = f"cannot be moved into place, {error.strerror}; it is tried again"
        return Change(job, job.noted(services.clock.time(), f"it {words}", message=words)) if job.message != words else None
    path = error.filename2 or error.filename
    where = f": {path}" if path else ""
    return Change(job, _failed(services, job, Cause.DISK, f"it cannot be moved into place, {error.strerror}{where}"))


def _pieces(parcel: Parcel) -> list[place.Piece]:
    transfer, target = parcel.job.transfer, Path(parcel.result.path)
    assert transfer is not None, f"job {parcel.job.id} has no transfer"
    if len(parcel.files) == 1:
        return [place.Piece(Path(parcel.files[0].path), target, parcel.result.size)]
    root = _root(parcel.files, Path(transfer.directory))
    inside = safe_paths([Path(file.path).relative_to(root) for file in parcel.files])
    return [place.Piece(Path(file.path), target / path, file.size) for file, path in zip(parcel.files, inside, strict=True)]


# ---- record ----------------------------------------------------------------------------------------------------


def _failed(services: Services, job: Job, cause: Cause, message: str) -> Job:
    return outcomes.failed(job, cause, message, services.clock.time())


def _faulty(services: Services, job: Job, error: Exception) -> Change:
    """One job that runs into a fault of ours ends; the others of its batch go on."""
    log.error("a job could not be finished because of a fault in Haul", job=job.id, exc_info=error)
    return Change(job, _failed(services, job, Cause.WORKER, f"a fault in Haul, {type(error).__name__}; its log tells more"))


def _tidy(services: Services, old: Job, job: Job, needed: Collection[str]) -> None:
    """Delete what the engines have of a job that has ended, unless it seeds, a retry can go on from it, or another job needs it."""
    services.metrics.ended.labels(job.state, job.cause or "").inc()
    if old.transfer is None:
        return
    if job.state is State.DONE and job.result is not None and not outcomes.is_guest(old):
        services.metrics.bytes.labels(old.transfer.engine).inc(job.result.size)
    if is_spent(job) or outcomes.is_guest(old):
        _delete(services, old, needed)


def _delete(services: Services, old: Job, needed: Collection[str]) -> None:
    if old.transfer is not None and old.transfer.id not in needed:
        delete_work(old.transfer, {name: engine.directory for name, engine in services.engines.items()})
