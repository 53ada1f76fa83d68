"""qBittorrent's rows read as transfers: pure, and lean, for it runs over every row once a second.

A row is found by its tag, never by its hash: that of a hybrid torrent changes when its description arrives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from worker.engines.qbittorrent.faults import MISSING, UNKNOWN
from worker.engines.qbittorrent.view import Row
from worker.jobs.directories import WORK
from worker.jobs.model import Progress
from worker.jobs.states import Phase
from worker.ports import Fault, Item, ItemStatus

TAG = "haul-"

ERROR, GONE = "error", "missingFiles"
#: Stopped before the end, and after it; the second names are those of 5.0 and later.
_STOPPED = frozenset({"pausedDL", "stoppedDL", "pausedUP", "stoppedUP"})
_UPLOADING = frozenset({"uploading", "stalledUP", "forcedUP", "queuedUP"})

_RUNNING: Mapping[str, Phase] = {
    "metaDL": Phase.METADATA,
    "forcedMetaDL": Phase.METADATA,
    "checkingDL": Phase.CHECKING,
    "checkingUP": Phase.CHECKING,
    "checkingResumeData": Phase.CHECKING,
    "allocating": Phase.CHECKING,
    "moving": Phase.CHECKING,
    "downloading": Phase.TRANSFER,
    "stalledDL": Phase.TRANSFER,
    "forcedDL": Phase.TRANSFER,
}


def tag(transfer: str, attempt: int) -> str:
    """The handle of an attempt."""
    return TAG + hashlib.sha256(f"{transfer}:{attempt}".encode()).hexdigest()[:16]


def handle(key: str, row: Row) -> str:
    """Our tag of a row, or its hash."""
    names = map(str.strip, row["tags"].split(","))
    return next((name for name in names if name.startswith(TAG)), key)


def handles(rows: Mapping[str, Row]) -> dict[str, str]:
    """Handle -> hash of every row."""
    return {handle(key, row): key for key, row in rows.items()}


def infohashes(key: str, row: Row) -> set[str]:
    """Every name a row's torrent has; the second version's in full and as it is shortened for trackers."""
    v2 = row.get("infohash_v2", "")
    return {key, row.get("infohash_v1", ""), v2, v2[:40]} - {""}


def items(rows: Mapping[str, Row], directory: str, engine: str, faults: Mapping[str, Fault]) -> dict[str, Item]:
    """Each row as an item, by handle.

    Args:
        directory, engine: of which the work directories are made; rows elsewhere are not ours.
        faults: why rows in the state `error` are, by hash.
    """
    prefix, suffix = f"{directory.rstrip('/')}/{WORK}/", f"/{engine}"
    return {handle(key, row): _item(key, row, _transfer(row["save_path"], prefix, suffix), faults) for key, row in rows.items()}


def complete(row: Row) -> bool:
    """True when all selected bytes are there and checked; no clock of qBittorrent's says that reliably."""
    ended = row["state"] in _UPLOADING or row["state"] in _STOPPED
    return ended and row["progress"] == 1 and row["amount_left"] == 0 and row["size"] > 0


def stopped(row: Row) -> bool:
    """True when it has more to fetch and waits to be started."""
    return row["state"] in _STOPPED and not complete(row)


def described(row: Row) -> bool:
    """True when the torrent's description is there."""
    return bool(row["total_size"] > 0)


def broken(row: Row) -> bool:
    """True when it cannot go on before its files are checked; resuming alone does not help."""
    return row["state"] in (ERROR, GONE)


def _transfer(path: str, prefix: str, suffix: str) -> str | None:
    path = path.rstrip("/")
    if not (path.startswith(prefix) and path.endswith(suffix)):
        return None
    transfer = path[len(prefix) : -len(suffix)]
    return transfer if transfer and "/" not in transfer else None


def _item(key: str, row: Row, transfer: str | None, faults: Mapping[str, Fault]) -> Item:
    status = _status(row)
    running = status is ItemStatus.RUNNING
    return Item(
        handle(key, row),
        status,
        transfer,
        Progress(
            done=row["completed"],
            total=row["size"] if described(row) else None,
            speed=row["dlspeed"] if running else 0,  # an average of some seconds, which goes on when all is there
            uploaded=row["uploaded"],
            connections=row["num_seeds"] + row["num_leechs"],
        ),
        _RUNNING.get(row["state"]) if running else None,
        _fault(key, row, faults) if status is ItemStatus.FAILED else None,
        seeding=status is ItemStatus.COMPLETE and _seeds(row),
    )


def _status(row: Row) -> ItemStatus:
    state = row["state"]
    if broken(row):
        return ItemStatus.FAILED
    if state in _RUNNING:
        return ItemStatus.RUNNING
    if complete(row):
        return ItemStatus.COMPLETE
    # What is left is in qBittorrent's own queue, or new to us; either way qBittorrent goes on by itself.
    return ItemStatus.PAUSED if stopped(row) else ItemStatus.WAITING


def _fault(key: str, row: Row, faults: Mapping[str, Fault]) -> Fault:
    return MISSING if row["state"] == GONE else faults.get(key, UNKNOWN)


def _seeds(row: Row) -> bool:
    """True until a limit is reached; qBittorrent itself looks only every ten seconds.

    A negative limit is none; a negative ratio is one too large to be shown.
    """
    ratio, minutes = row["ratio_limit"], row["seeding_time_limit"]
    ended = (ratio >= 0 and not 0 <= row["ratio"] < ratio) or 0 <= minutes * 60 <= row["seeding_time"]
    return row["state"] in _UPLOADING and not ended
