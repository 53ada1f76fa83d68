"""Where captures are kept: a file each beside the data, the latest under a name of its own, and in the store for all machines.

In the directory: the newest `HOURLY`, and of older ones the first of each day, `DAILY` of them. In the store they are lines of the run
ledger, under names of their own: `baseline.hourly`, and `baseline.daily`, where the slot is the day, so that a day has one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from worker.jobs.errors import Rejected, Transient
from worker.maintenance.baseline.document import BYTES_MAX, ID, Capture, read
from worker.ports import JobStore, Run
from worker.settings import Settings

HOURLY, DAILY = 400, 400
IN_STORE_HOURLY, IN_STORE_DAILY = "baseline.hourly", "baseline.daily"
LATEST = "baseline_latest.json"
PREFIX, SUFFIX = "baseline_", ".json"
#: Half-written files of processes that died are removed after this time.
DEAD_S = 3_600.0
DAY_CHARS = len("20240131")


def directory(settings: Settings) -> Path:
    """Where files go; it may not be there yet."""
    return settings.baseline_dir or settings.data_dir / ".metrics" / "baselines"


def keep_file(capture: Capture, where: Path) -> Path:
    """Write a capture and lead `baseline_latest.json` to it, both at once or not at all to whoever reads; then remove surplus ones.

    Raises:
        Transient: it cannot be written.
    """
    path = where / f"{PREFIX}{capture.id}{SUFFIX}"
    try:
        where.mkdir(parents=True, exist_ok=True)
        _write(path, capture.text)
        _lead(where, path)
        for id in surplus(ids(where)):
            (where / f"{PREFIX}{id}{SUFFIX}").unlink(missing_ok=True)
        _bury(where)
    except OSError as error:
        raise Transient("baseline", f"{where} cannot be written: {error.strerror}") from None
    return path


def keep_in_store(capture: Capture, store: JobStore, owner: str) -> None:
    """Keep it for all machines; idempotent. Raises Transient."""
    _keep_line(capture, store, owner, (IN_STORE_HOURLY, capture.id, HOURLY))


def keep_daily(capture: Capture, store: JobStore, owner: str) -> None:
    """Keep it as that of its day, unless the day has one; idempotent. Raises Transient."""
    _keep_line(capture, store, owner, (IN_STORE_DAILY, capture.id[:DAY_CHARS], DAILY))


def daily(store: JobStore, limit: int) -> list[Capture]:
    """Those of the newest days, newest first. Raises Transient."""
    return _of(store.runs(IN_STORE_DAILY, limit))


def ids(where: Path) -> list[str]:
    """Of the captures in a directory, newest first."""
    try:
        names = os.listdir(where)
    except OSError:
        return []
    found = (name[len(PREFIX) : -len(SUFFIX)] for name in names if name.startswith(PREFIX) and name.endswith(SUFFIX))
    return sorted((id for id in found if ID.fullmatch(id)), reverse=True)


def surplus(ids: Sequence[str]) -> list[str]:
    """Those to be removed, of ids newest first; pure."""
    old = ids[HOURLY:]
    days = {id[:DAY_CHARS]: id for id in old}  # the last of each day in this order is its first
    kept = set(sorted(days.values(), reverse=True)[:DAILY])
    return [id for id in old if id not in kept]


def load(path: Path) -> Capture:
    """The capture in a file.

    Raises:
        Rejected: there is none, or it is none.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise Rejected("baseline", f"cannot read {path}: {error.strerror}", fix="`haul baseline list` shows those that are kept") from None
    if len(content) > BYTES_MAX:
        raise Rejected("baseline", f"{path} is larger than any capture")
    return read(content.decode("utf-8", "replace"), str(path))


def kept(where: Path, store: JobStore | None, limit: int) -> list[Capture]:
    """The newest captures, of the directory and of the store, newest first; what cannot be read is left out.

    Raises:
        Transient: the store does not answer.
    """
    found: dict[str, Capture] = {}
    for id in ids(where)[:limit]:
        with suppress(Rejected):
            found[id] = load(where / f"{PREFIX}{id}{SUFFIX}")
    if store and len(found) < limit:
        lines = [line for name in (IN_STORE_HOURLY, IN_STORE_DAILY) for line in store.runs(name, limit)]
        found = {each.id: each for each in _of(lines)} | found
    return sorted(found.values(), key=lambda each: each.id, reverse=True)[:limit]


def _keep_line(capture: Capture, store: JobStore, owner: str, line: tuple[str, str, int]) -> None:
    name, slot, bound = line
    store.keep_runs([Run(name, slot, owner, capture.at, capture.at + capture.seconds, True, {"capture": capture.text})])
    store.drop_runs(name, bound)


def _of(runs: Iterable[Run]) -> list[Capture]:
    found = []
    for run in runs:
        with suppress(Rejected):
            found.append(read(str(run.report.get("capture", "")), f"the line {run.slot} of {run.name}"))
    return found


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".new-{os.getpid()}-{path.name}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def _lead(where: Path, path: Path) -> None:
    """Link the latest; where a file system has no links, copy it."""
    fresh = where / f".new-{os.getpid()}-{LATEST}"
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(path.name)
    except OSError:
        _write(where / LATEST, path.read_text(encoding="utf-8").strip())
        return
    fresh.replace(where / LATEST)


def _bury(where: Path) -> None:
    for path in where.glob(".new-*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > DEAD_S:
                path.unlink()
