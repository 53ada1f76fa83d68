"""Which requests ask for the same content: pure, and never so by guesswork, for a wrong file is worse than a second download."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit, urlunsplit

from worker.jobs.directories import is_spent
from worker.jobs.model import Job, Source, SourceKind
from worker.jobs.states import LIVE, Reason, State, Want

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443, "ftp": 21}
TORRENTS = frozenset({SourceKind.MAGNET, SourceKind.TORRENT})
#: A metalink's own validators say nothing of the files it names.
ADDRESSED = frozenset({SourceKind.HTTP, SourceKind.FTP})
#: Names that one job can have at most: infohashes of both versions, or a checksum and an address.
KEYS_MAX = 2

_BTIH, _BTMH = "urn:btih:", "urn:btmh:1220"


def keys(job: Job) -> tuple[str, ...]:
    """Names of what the job asks for; two jobs that have one in common ask for the same bytes, if `shares` has no objection.

    A torrent goes by its infohashes. Another source goes by the checksum it is to have, and by its address if the server told a
    validator: without one, two answers of one address may differ, so they are never taken for the same. What a job may reach, the
    files it selects, and how long it seeds are part of each name; so is the user, where the address has a password. An address with
    a query, which may be a secret, is shared with those alone who know it.
    """
    try:
        names = _torrent(job) if job.source.kind in TORRENTS else _file(job)
        if not names:
            return ()
        owner = job.user if has_login(job.source) else None
    except ValueError:  # no URL: no door lets it in
        return ()
    common = (job.guarded, job.select, job.seed_ratio or 0.0, owner)
    return tuple(hashlib.sha256(repr((name, common)).encode()).hexdigest()[:32] for name in names)


def shown_keys(job: Job) -> tuple[str, ...]:
    """By which names a store finds a job: those of its content, while it is live and holds a transfer."""
    return keys(job) if job.transfer is not None and not job.terminal else ()


def held(job: Job) -> str | None:
    """The id of the transfer whose files a job may still need."""
    return job.transfer.id if job.transfer is not None and not is_spent(job) else None


def shares(job: Job, leader: Job) -> bool:
    """Whether a job whose content has a name of the leader's may wait for the leader's transfer."""
    if leader.transfer is None or job.engine not in (None, leader.transfer.engine):
        return False
    return not (job.sha256 and leader.sha256) or job.sha256 == leader.sha256


def leads(job: Job) -> bool:
    """Whether others may begin to wait for what a job downloads: it goes on by itself, and is not about to be paused or cancelled."""
    return job.want is Want.RUN and goes_on(job)


def goes_on(job: Job) -> bool:
    """Whether a transfer that is waited for will come to its end, or to the hands of one who waits for it.

    While its job waits for what is its user's own affair, his turn or his limits, the jobs of others do not wait with it.
    """
    if job.transfer is None or job.state not in LIVE:
        return False
    if job.want is not Want.RUN:
        return job.state is not State.PAUSED or job.want is Want.CANCEL or job.reason is Reason.DUPLICATE
    return not (job.state is State.QUEUED and job.reason in (Reason.TURN, Reason.RATE))


def stands(job: Job) -> bool:
    """Whether what a job downloads was stopped by its user, and may go on for another one."""
    return job.state is State.PAUSED and job.want is Want.PAUSE and job.transfer is not None


def may_take_over(job: Job, leader: Job) -> bool:
    """Whether a follower may go on with the leader's transfer as with its own: a file came from the address that it names, too."""
    if not shares(job, leader) or job.attempt > leader.attempt:
        return False
    return job.source.kind in TORRENTS or normalised(job.source.uri) == normalised(leader.source.uri)


def normalised(uri: str) -> str:
    """A URL with scheme and host in lower case, without default port and fragment; path and query exactly as they are."""
    parts = urlsplit(uri)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, DEFAULT_PORTS.get(scheme)) else f":{parts.port}"
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit((scheme, f"{login}{host}{port}", parts.path or "/", parts.query, ""))


def has_login(source: Source) -> bool:
    """Whether its URL has a user or a password in it: then it is never shared between users."""
    return source.kind is not SourceKind.MAGNET and "@" in urlsplit(source.uri).netloc


def _torrent(job: Job) -> list[tuple[str, ...]]:
    found = (job.description.v1, job.description.v2) if job.description else _topics(job.source)
    return [(kind, infohash) for kind, infohash in zip(("btih", "btmh"), found, strict=True) if infohash]


def _topics(source: Source) -> tuple[str | None, str | None]:
    """The infohashes of a magnet link, in lower hexadecimal digits."""
    v1 = v2 = None
    topics = parse_qs(urlsplit(source.uri).query).get("xt", []) if source.kind is SourceKind.MAGNET else []
    for topic in topics:
        if topic.startswith(_BTIH):
            text = topic.removeprefix(_BTIH)
            v1 = v1 or (text.lower() if len(text) == 40 else base64.b32decode(text.upper()).hex())
        elif topic.startswith(_BTMH):
            v2 = v2 or topic.removeprefix(_BTMH).lower()
    return v1, v2


def _file(job: Job) -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    probe = job.probe
    told = probe is not None and job.source.kind in ADDRESSED and (probe.etag or (probe.modified and probe.size is not None))
    if not (job.sha256 or told):
        return names
    address = normalised(job.source.uri)
    if job.sha256:
        names.append(("sha256", job.sha256, address if urlsplit(address).query or has_login(job.source) else ""))
    if probe is not None and told:
        if probe.etag:
            names.append(("url", address, "etag", probe.etag, str(probe.size)))
        elif probe.modified:
            names.append(("url", address, "modified", probe.modified, str(probe.size)))
    return names
