"""What a `.torrent` file says, as the record keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Description:
    """What a job's `.torrent` file says; the file itself is kept in the store, beside the records.

    Attributes:
        document: name of the file in the store (`JobStore.torrents`): its SHA-256 in hexadecimal.
        size: bytes of all files, selected or not.
        files: how many there are.
        v1, v2: infohashes, 40 and 64 hexadecimal digits; one of them may be absent.
        selected: bytes of the files that the job selects; None when it selects none.
    """

    document: str
    name: str
    size: int
    files: int
    v1: str | None = None
    v2: str | None = None
    selected: int | None = None
