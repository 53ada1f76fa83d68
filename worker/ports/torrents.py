"""The `.torrent` files that are kept beside the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TorrentPage:
    """Some `.torrent` files that were looked at.

    Attributes:
        unnamed: those that no job names, and since when that is noted (store clock); None: not yet.
        cursor: of the next page, None at the end.
    """

    unnamed: Mapping[str, float | None]
    cursor: str | None


class Torrents(Protocol):
    """That part of `JobStore`."""

    def keep_torrent(self, document: bytes) -> str:
        """Keep a `.torrent` file, once however often it is given; returns its name, `Description.document`.

        To be called before the job that names it is recorded, however well the file is known: see `forget_torrents`.
        """

    def torrents(self, names: Iterable[str]) -> dict[str, bytes]:
        """The `.torrent` files kept under these names; unknown names are absent."""

    def unnamed_torrents(self, limit: int, *, after: str | None = None) -> TorrentPage:
        """Look at `limit` `.torrent` files, those behind the cursor `after`, for those that no job names. Writes nothing."""

    def forget_torrents(self, names: Iterable[str], before: float) -> int:
        """Note of each of these `.torrent` files that no job names it, and remove those of which that was noted before `before`.

        `keep_torrent` takes the note away. So a file stays whose job is recorded after it was kept, and not later than the time
        from `before` to now: it is named when this looks, or has no note that is as old when this removes. Idempotent.

        Args:
            before: store clock.

        Returns:
            how many went; fewer are told when an answer was lost.
        """
