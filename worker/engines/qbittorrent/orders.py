"""An order in qBittorrent's terms: pure."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from worker.engines.qbittorrent.files import long_names
from worker.jobs.errors import Rejected
from worker.jobs.model import SourceKind
from worker.jobs.torrents import read_torrent
from worker.ports import Order

#: An infohash in a magnet link: of the first version, in hexadecimal or base32, or of the second, as a multihash (SHA-256).
_TOPIC = re.compile(r"urn:bt(?:ih:(?P<hex>[0-9a-f]{40}|(?P<base32>[a-z2-7]{32}))|mh:1220(?P<v2>[0-9a-f]{64}))(?![0-9a-z])", re.IGNORECASE)
#: Magnet links are given one a line.
_UNFIT = re.compile(r"[\x00-\x20\x7f]")


def addable(order: Order) -> bool:
    """True when the source can be given to qBittorrent: a document, or one magnet link."""
    if order.source.kind is SourceKind.TORRENT:
        return order.document is not None
    return order.source.kind is SourceKind.MAGNET


def readable(order: Order) -> bool:
    """False for what qBittorrent would take for something else, or take and never show."""
    return order.source.kind is not SourceKind.MAGNET or (
        order.source.uri.lower().startswith("magnet:?") and not _UNFIT.search(order.source.uri) and bool(infohashes(order))
    )


def parameters(order: Order, tag: str, *, stopped: bool) -> Mapping[str, Any]:
    """What `Client.torrents_add` is given. Nothing depends on how qBittorrent is set: every choice is made here.

    What has files to arrange stops: a magnet link as soon as it is described, a document before it begins.

    Args:
        stopped: what `held` says of it.
    """
    document = order.document if order.source.kind is SourceKind.TORRENT else None
    seeds = bool(order.seed_ratio)
    return {
        **({"torrent_files": document} if document is not None else {"urls": order.source.uri}),
        "save_path": order.directory,
        "use_auto_torrent_management": False,
        "use_download_path": False,
        "content_layout": "Original",
        "tags": tag,
        "category": order.category,
        "is_stopped": stopped,
        "stop_condition": "MetadataReceived" if order.select and document is None else "None",
        "ratio_limit": order.seed_ratio if seeds else 0,
        "seeding_time_limit": math.ceil(order.seed_time_s / 60) if seeds and order.seed_time_s else -1,
        "inactive_seeding_time_limit": -1,
        "share_limit_action": "Stop",
        "share_limits_mode": "MatchAny",
        "download_limit": order.limit,
    }


def held(order: Order) -> bool:
    """True when it is added stopped, for its files have to be arranged before it begins; reads the document, which may take a second."""
    if order.source.kind is not SourceKind.TORRENT or order.document is None:
        return False
    return bool(order.select) or long_names(order.document)


def accepted(answer: Any) -> bool:
    """Whether an answer to `torrents/add` is a yes: two words of text, or counts from version 2.14 of the API on."""
    if isinstance(answer, Mapping):
        return not answer.get("failure_count", 0)
    return str(answer).strip() == "Ok."


def infohashes(order: Order) -> set[str]:
    """Every name the order's torrent may have at qBittorrent, in lower case; empty when it cannot be read."""
    if order.source.kind is SourceKind.TORRENT:
        try:
            torrent = read_torrent(order.document or b"")
        except Rejected:
            return set()
        return {torrent.v1 or "", torrent.v2 or "", (torrent.v2 or "")[:40]} - {""}
    found: set[str] = set()
    for topic in _TOPIC.finditer(unquote(order.source.uri)):
        if topic["v2"]:
            found |= {topic["v2"].lower(), topic["v2"][:40].lower()}
        elif topic["base32"]:
            found |= _from_base32(topic["base32"])
        else:
            found.add(topic["hex"].lower())
    return found


def _from_base32(text: str) -> set[str]:
    try:
        return {base64.b32decode(text.upper()).hex()}
    except binascii.Error:
        return set()
