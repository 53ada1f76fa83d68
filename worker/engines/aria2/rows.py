"""aria2's rows, one for each gid, read as transfers: pure, and lean, for it runs over every row once a second.

A magnet link or a torrent's address gets the gid we chose; the payload gets another, of aria2's choice, that changes with
each restart. So rows are grouped into chains by their root, the row we named, and a chain is one item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.engines.aria2.faults import MISREAD, TWICE, fault
from worker.jobs.directories import WORK
from worker.jobs.model import Progress
from worker.jobs.states import Phase
from worker.ports import Fault, Item, ItemStatus

Row = dict[str, Any]

#: What a poll asks of each row; `files` is left out, for a torrent has thousands.
POLL_KEYS: Sequence[str] = [
    *("gid", "status", "dir", "totalLength", "completedLength", "downloadSpeed", "uploadLength", "connections"),
    *("errorCode", "errorMessage", "followedBy", "following", "belongsTo", "bittorrent", "seeder"),
    *("verifiedLength", "verifyIntegrityPending", "infoHash"),
]
#: What is needed to act on a chain.
CHAIN_KEYS: Sequence[str] = ["gid", "status", "dir", "errorCode", "errorMessage", "followedBy", "following", "belongsTo"]

#: Longer chains do not exist: a metalink's torrent's payload is the third link.
LINKS_MAX = 8
#: A file without control file is in the way; a file cannot be created. `submit` heals both, see `curable`.
IN_THE_WAY, NOT_CREATED = "13", "16"
KNOWN = "12"


def chains(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows by the gid of their root, which is named even when its own row is gone."""
    rows = list(rows)
    parents = {row["gid"]: parent for row in rows if (parent := row.get("following") or row.get("belongsTo"))}
    found: dict[str, list[Row]] = {}
    for row in rows:
        root = row["gid"]
        if parents:
            for _ in range(LINKS_MAX):
                if root not in parents:
                    break
                root = parents[root]
        found.setdefault(root, []).append(row)
    return found


def items(rows: Iterable[Row], directory: str, engine: str) -> dict[str, Item]:
    """Each chain as an item, without those that only have to be submitted again.

    Args:
        directory, engine: of which the work directories are made; rows elsewhere are not ours.
    """
    prefix, suffix = f"{directory.rstrip('/')}/{WORK}/", f"/{engine}"
    found = {}
    for root, chain in chains(rows).items():
        item = _item(root, chain, _transfer(chain[0]["dir"], prefix, suffix))
        if item:
            found[root] = item
    return found


def leaves(chain: Sequence[Row]) -> list[Row]:
    """The rows of a chain that carry its content: those that nothing follows."""
    return [row for row in chain if not row.get("followedBy")]


def curable(row: Row) -> bool:
    """True for an error that `submit` may heal by adding the download again in another way."""
    return row["status"] == "error" and row.get("errorCode") in (IN_THE_WAY, NOT_CREATED)


def _transfer(path: str, prefix: str, suffix: str) -> str | None:
    if not (path.startswith(prefix) and path.endswith(suffix)):
        return None
    transfer = path[len(prefix) : -len(suffix)]
    return transfer if transfer and "/" not in transfer else None


def _item(root: str, chain: list[Row], transfer: str | None) -> Item | None:
    rows = leaves(chain)
    if len(chain) > 1 and _misread(chain):
        return Item(root, ItemStatus.FAILED, transfer, _progress(rows), fault=MISREAD)
    status = _status(rows)
    failed = next((row for row in rows if row["status"] == "error"), None) if status is ItemStatus.FAILED else None
    if status is None or (failed and curable(failed)):
        return None
    return Item(
        root,
        status,
        transfer,
        _progress(rows),
        _phase(rows) if status is ItemStatus.RUNNING else None,
        _fault(failed, rows) if failed else None,
        seeding=status is ItemStatus.COMPLETE and any(row["status"] == "active" for row in rows),
    )


#: The status of a chain is the first of these that one of its leaves has. What was removed by hand is not there.
_WORST_FIRST = (
    ("active", ItemStatus.RUNNING),
    ("waiting", ItemStatus.WAITING),
    ("removed", None),
    ("error", ItemStatus.FAILED),
    ("paused", ItemStatus.PAUSED),
    ("complete", ItemStatus.COMPLETE),
)
_OF_ONE: Mapping[str, ItemStatus | None] = dict(_WORST_FIRST)


def _status(rows: list[Row]) -> ItemStatus | None:
    if len(rows) == 1 and "seeder" not in rows[0]:
        return _OF_ONE[rows[0]["status"]]
    statuses = {"complete" if _seeds(row) else row["status"] for row in rows}
    return next((ours for theirs, ours in _WORST_FIRST if theirs in statuses), None)


def _seeds(row: Row) -> bool:
    return row.get("seeder") == "true" and row["status"] == "active" and 0 < int(row["totalLength"]) == int(row["completedLength"])


def _fault(failed: Row, rows: Sequence[Row]) -> Fault:
    """Why a leaf failed; a torrent that aria2 has for another leaf of the same chain is never free for this one."""
    if failed.get("errorCode") == KNOWN and any(row is not failed and row.get("infoHash") == failed.get("infoHash") for row in rows):
        return TWICE
    return fault(failed.get("errorCode", ""), failed.get("errorMessage", ""))


def _is_metadata(row: Row) -> bool:
    torrent: Mapping[str, Any] | None = row.get("bittorrent")
    return torrent is not None and "info" not in torrent


def _phase(rows: list[Row]) -> Phase:
    active = [row for row in rows if row["status"] == "active"]
    if all(_is_metadata(row) for row in active):
        return Phase.METADATA
    if any("verifiedLength" in row or row.get("verifyIntegrityPending") == "true" for row in active):
        return Phase.CHECKING
    return Phase.TRANSFER


def _misread(chain: list[Row]) -> bool:
    """True when aria2 took the torrent of a magnet link for another one, see `MISREAD`."""
    hashes = {row["gid"]: row.get("infoHash") for row in chain}
    return any(hashes.get(row.get("following"), row.get("infoHash")) not in (None, row.get("infoHash")) for row in chain)


def _progress(rows: list[Row]) -> Progress:
    done = total = speed = uploaded = connections = 0
    known = True
    for row in rows:
        speed += int(row["downloadSpeed"])
        uploaded += int(row["uploadLength"])
        connections += int(row["connections"])
        if _is_metadata(row):  # its bytes are the description's, not the content's
            known = False
            continue
        length = int(row["totalLength"])
        done += int(row["completedLength"])
        total += length
        known = known and (length > 0 or row["status"] == "complete")
    return Progress(done, total if known else None, speed, uploaded, connections)


def dead(chain: Sequence[Row]) -> bool:
    """True when nothing of it can go on: it failed, was removed, or its payload is gone."""
    rows = leaves(chain)
    live = any(row["status"] in ("active", "waiting", "paused") for row in rows)
    return not live and (not rows or any(row["status"] in ("error", "removed") for row in rows))
