"""What qBittorrent has, kept up to date by asking for what changed."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.engines.deadline import Deadline
from worker.engines.qbittorrent.session import QbittorrentSession
from worker.jobs.errors import Transient

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """One look.

    Attributes:
        session: another one after each answer that was not about changes: qBittorrent was restarted, or forgot us.
        rows: by hash; never changed afterwards.
        speed: bytes a second, all downloads.
    """

    session: str
    rows: Mapping[str, Row]
    speed: int


def merged(rows: Mapping[str, Row], answer: Mapping[str, Any]) -> dict[str, Row]:
    """The rows after an answer of `sync/maindata`: a full one replaces all, others name the fields that changed.

    A hybrid gets another hash when its description arrives. 4.5 then says that the old one went; 5.1 (measured) does not.
    """
    known = {} if answer.get("full_update") else dict(rows)
    for key in answer.get("torrents_removed", ()):
        known.pop(key, None)
    for key, change in answer.get("torrents", {}).items():
        known[key] = {**known.get(key, {}), **change}
    for former in {name for key in answer.get("torrents", {}) for name in _hashes(known[key]) - {key}}:
        known.pop(former, None)
    return known


def _hashes(row: Row) -> set[str]:
    """Every hash a row may be known by."""
    return {row.get("infohash_v1", ""), row.get("infohash_v2", "")[:40]}


class QbittorrentView:
    """The last look, and how to take the next one; for several threads.

    The number that names an answer belongs to the login, so nobody else may ask with it.
    """

    def __init__(self, session: QbittorrentSession) -> None:
        self._from = session
        self._lock = threading.Lock()
        self._answer = 0
        self._seen = Seen("", {}, 0)

    def look(self, deadline: Deadline) -> Seen:
        """Everything qBittorrent has, in one request whose answer is as long as the changes."""
        if not self._lock.acquire(timeout=deadline.left_s):
            raise Transient(self._from.service, "no answer in time")
        try:
            answer = self._from.call(deadline, "sync_maindata", rid=self._answer)
            seen = self._seen
            session = secrets.token_hex(8) if answer.get("full_update") else seen.session
            speed = answer.get("server_state", {}).get("dl_info_speed", seen.speed)
            self._seen = Seen(session, merged(seen.rows, answer), speed)
            self._answer = answer["rid"]
            return self._seen
        except (AttributeError, KeyError, TypeError):
            raise Transient(self._from.service, "the answer is not one of qBittorrent: check the address in HAUL_ENGINES") from None
        finally:
            self._lock.release()
