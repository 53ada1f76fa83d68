"""Where the bytes of a job come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

#: Schemes of addresses that name the one server which has the bytes.
HOSTED = frozenset({"http", "https", "ftp", "sftp"})


class SourceKind(StrEnum):
    """What an engine must be able to fetch."""

    HTTP = "http"
    FTP = "ftp"
    MAGNET = "magnet"
    TORRENT = "torrent"
    METALINK = "metalink"


def host_of(uri: str) -> str | None:
    """The host of an address of HTTP or FTP, without its port; None when it has none."""
    try:
        parts = urlsplit(uri)
        return (parts.hostname or "").rstrip(".") or None if parts.scheme in HOSTED else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes come from. `uri` may carry secrets: show `shown` instead."""

    kind: SourceKind
    uri: str

    @property
    def host(self) -> str | None:
        """The server that is asked for the bytes, in small letters; None for what names none."""
        return host_of(self.uri)

    @property
    def shown(self) -> str:
        """The URI without credentials and without the values of its query; a magnet link keeps its infohash only."""
        if self.kind is SourceKind.MAGNET:
            topics = [part for part in self.uri.partition("?")[2].split("&") if part.startswith("xt=")]
            return "magnet:?" + "&".join(topics)
        try:
            parts = urlsplit(self.uri)
        except ValueError:
            return "(not a URL)"
        host = parts.netloc.rpartition("@")[2]
        query = "…" if parts.query else ""
        return urlunsplit((parts.scheme, host, parts.path, query, ""))
