"""Checks what a door was asked for, before anything is started: the first fault is named, with its fix."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qs, urlsplit

from worker.jobs.errors import Rejected
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.torrents import TORRENT_BYTES_MAX, describe
from worker.notation.bandwidth import RATE_MIN
from worker.notation.sizes import read_size

URI_BYTES_MAX = 8_192
NAME_BYTES_MAX = 255
KEY_BYTES_MAX = 512
USER_BYTES_MAX = 128
PRIORITY_MAX = 1_000
SELECT_MAX = 100_000
SEED_RATIO_MAX = 1_000.0
#: Bytes a second that every engine can be told.
SPEED_MAX = (1 << 31) - 1024
#: Base64 takes four characters for three bytes, and a line break after 64 of them or more.
TORRENT_TEXT_MAX = -(-TORRENT_BYTES_MAX // 3) * 4 * 66 // 64 + 4
#: Characters of a wrong value that a message repeats.
SHOWN_MAX = 64

SCHEMES: Mapping[str, SourceKind] = {"http": SourceKind.HTTP, "https": SourceKind.HTTP, "ftp": SourceKind.FTP, "magnet": SourceKind.MAGNET}
#: The scheme of a source whose `.torrent` file came with the request; no user may name it.
UPLOADED = "torrent:"
#: Documents that describe the download; told by the end of the URL's path. Engines fetch no `.torrent` file, and we none by FTP.
DOCUMENTS: Mapping[str, SourceKind] = {".torrent": SourceKind.TORRENT, ".metalink": SourceKind.METALINK, ".meta4": SourceKind.METALINK}

_INFOHASH = re.compile(r"urn:btih:([0-9a-fA-F]{40}|[A-Za-z2-7]{32})|urn:btmh:1220[0-9a-fA-F]{64}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
_RANGE = re.compile(r"([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?")
#: Control characters, what ends a line, and what turns the direction of writing around: `photo` + U+202E + `gpj.exe` reads as a picture.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{CONTROL_CHARACTERS}]")


def parse(spec: Mapping[str, Any], *, owner: bool = False) -> Request:
    """A `Request` of plain values as they come from a command line, a JSON body or a message.

    Args:
        spec: `user`, either `uri` or `torrent` (a `.torrent` file in base64), and optionally the other fields of `Request`
            (`hash` for `hash_wanted`; `select` as a list of numbers or as `1,3-5`; `max_speed` in bytes or as `2 MiB`).
        owner: the machine's owner asks, on the command line: any directory may be named and private
            networks are open, as for any program the owner runs. Everybody else gets neither.

    Raises:
        Rejected: names the first field at fault and what to send instead.
    """
    if not isinstance(spec, Mapping):
        raise Rejected("request", "is not an object with named fields", fix='for example {"uri": "https://host/file.iso", "user": "42"}')
    unknown = sorted(set(map(str, spec)) - _FIELDS)
    if unknown:
        raise Rejected(unknown[0], "there is no such field", fix=f"known fields: {', '.join(sorted(_FIELDS))}")
    document = _optional(spec, "torrent", torrent)
    if document is not None and spec.get("uri") is not None:
        raise Rejected("torrent", "goes without a uri", fix="send one of the two")
    select = selection(spec.get("select"))
    return Request(
        source=uploaded(document) if document is not None else source(spec.get("uri")),
        user=user_name(spec.get("user")),
        key=_optional(spec, "key", lambda v: _label("key", v, KEY_BYTES_MAX)),
        tier=_optional(spec, "tier", lambda v: _short("tier", v)) or "free",
        priority=_priority(spec.get("priority")),
        name=_optional(spec, "name", file_name),
        out=_optional(spec, "out", _directory if owner else _no_directory),
        guarded=_flag(spec, "guard") or not owner,
        sha256=_optional(spec, "sha256", _sha256),
        hash_wanted=_flag(spec, "hash"),
        engine=_optional(spec, "engine", lambda v: _short("engine", v)),
        select=select,
        seed_ratio=_optional(spec, "seed_ratio", _ratio),
        category=_optional(spec, "category", lambda v: _short("category", v)),
        webhook=_optional(spec, "webhook", lambda v: _label("webhook", v, URI_BYTES_MAX)),
        max_speed=_optional(spec, "max_speed", _speed),
        description=describe(document, select) if document is not None else None,
        document=document,
    )


def source(uri: Any) -> Source:
    """The kind of a URI, and the URI trimmed.

    Raises:
        Rejected: not a string, too long, without a host, or a scheme no engine fetches.
    """
    if not isinstance(uri, str) or not uri.strip():
        raise Rejected("uri", "a URL or magnet link is needed", fix="for example https://host/file.iso")
    uri = uri.strip()
    if _size("uri", uri) > URI_BYTES_MAX:
        raise Rejected("uri", f"longer than {URI_BYTES_MAX} bytes", fix="use the direct link")
    if _CONTROL.search(uri) or " " in uri:
        raise Rejected("uri", "has spaces or control characters", fix="percent-encode them, a space as %20")
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may hold a password
        raise Rejected("uri", "is not a valid URL", fix="check host and port") from None
    if port == 0:
        raise Rejected("uri", "is not a valid URL", fix="check host and port")
    kind = SCHEMES.get(parts.scheme.lower())
    if kind is None:
        named = f"scheme {parts.scheme!r} is not supported" if parts.scheme else "has no scheme"
        raise Rejected("uri", named, fix="use http, https, ftp or magnet")
    if kind is SourceKind.MAGNET:
        return Source(kind, _magnet(uri, parts.query))
    if not host:
        raise Rejected("uri", "has no host", fix="for example https://host/file.iso")
    path = parts.path.lower()
    document = next((k for end, k in DOCUMENTS.items() if path.endswith(end)), None)
    if document is SourceKind.TORRENT and kind is SourceKind.FTP:
        document = None
    return Source(document or kind, uri)


def torrent(value: Any) -> bytes:
    """The bytes of a `.torrent` file from base64, which may have line breaks.

    Raises:
        Rejected: not base64, or too large.
    """
    if not isinstance(value, str) or not value:
        raise Rejected("torrent", "must be a .torrent file in base64", fix="leave it out for a uri")
    if len(value) > TORRENT_TEXT_MAX:
        raise Rejected("torrent", f"is larger than {TORRENT_BYTES_MAX} bytes", fix="use the magnet link")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("torrent", "is not base64", fix="encode the bytes of the .torrent file") from None


def uploaded(document: bytes) -> Source:
    """The source of a `.torrent` file that came with its request: the same for the same bytes."""
    return Source(SourceKind.TORRENT, UPLOADED + hashlib.sha256(document).hexdigest())


def user_name(value: Any) -> str:
    """The name of a user as text. Raises Rejected."""
    return _label("user", value, USER_BYTES_MAX)


def file_name(name: Any) -> str:
    """A name for one file, without any path.

    Raises:
        Rejected: has path parts or control characters, is too long, or is a name the file system keeps for itself.
    """
    if not isinstance(name, str) or not name.strip():
        raise Rejected("name", "must be a file name", fix="leave it out to keep the server's name")
    if "/" in name or "\\" in name or name in (".", ".."):
        raise Rejected("name", "has path parts", fix="give a bare file name; choose the folder with out")
    if _CONTROL.search(name):
        raise Rejected("name", "has control characters", fix="remove them")
    if _size("name", name) > NAME_BYTES_MAX:
        raise Rejected("name", f"longer than {NAME_BYTES_MAX} bytes", fix="shorten it")
    return name


def selection(value: Any) -> tuple[int, ...]:
    """File numbers from 1, ascending: from `1,3-5` or a list of numbers; empty means all.

    Raises:
        Rejected: not of that form.
    """
    if value is None or value == "" or value == () or value == []:
        return ()
    shown = str(value[:SHOWN_MAX] if isinstance(value, list | tuple | str) else value)[:SHOWN_MAX]
    wrong = Rejected("select", f"{shown!r} is not a list of file numbers", fix="for example 1,3-5")
    parts = [str(part) for part in value[: SELECT_MAX + 1]] if isinstance(value, list | tuple) else str(value).split(",", SELECT_MAX)
    chosen: set[int] = set()
    left = SELECT_MAX  # counts repeated numbers too, or many overlapping ranges would keep the door busy
    for part in parts:
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        left -= last - first + 1
        if not 1 <= first <= last <= SELECT_MAX or left < 0:
            raise wrong
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


_OURS = frozenset({"source", "hash_wanted", "guarded", "description", "document"})
_FIELDS = frozenset(f.name for f in fields(Request)) - _OURS | {"uri", "torrent", "hash", "guard"}


def _optional(spec: Mapping[str, Any], field: str, check: Any) -> Any:
    value = spec.get(field)
    return None if value is None else check(value)


def _flag(spec: Mapping[str, Any], field: str) -> bool:
    value = spec.get(field)
    if value is not None and not isinstance(value, bool):
        raise Rejected(field, "must be true or false", fix="without quotes")
    return bool(value)


def _size(field: str, text: str) -> int:
    """Bytes of a text; half a surrogate pair, which JSON and command lines can carry, is no text."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise Rejected(field, "is not valid Unicode", fix="send it as UTF-8") from None


def _magnet(uri: str, query: str) -> str:
    topics = parse_qs(query).get("xt", [])
    if not any(_INFOHASH.fullmatch(topic) for topic in topics):
        raise Rejected("uri", "magnet without a valid infohash", fix="xt=urn:btih: and 40 hex or 32 base32 characters")
    return uri


def _label(field: str, value: Any, bytes_max: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise Rejected(field, "must be a non-empty text", fix=f"give a {field}")
    if _size(field, value) > bytes_max:
        raise Rejected(field, f"longer than {bytes_max} bytes", fix="shorten it")
    if _CONTROL.search(value):
        raise Rejected(field, "has control characters", fix="remove them")
    return value


def _short(field: str, value: Any) -> str:
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise Rejected(field, f"{str(value)[:SHOWN_MAX]!r} is not a name", fix="letters, digits, dot, dash and underscore, at most 64")
    return value


def _priority(value: Any) -> int:
    if value is None:
        return 0
    try:
        priority = int(value) if not isinstance(value, bool | float) else -1
    except (TypeError, ValueError):
        priority = -1
    if not 0 <= priority <= PRIORITY_MAX:
        raise Rejected(
            "priority", f"{repr(value)[:SHOWN_MAX]} is out of range", fix=f"a whole number from 0 to {PRIORITY_MAX}, larger goes first"
        )
    return priority


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise Rejected("sha256", "is not a SHA-256 checksum", fix="64 hexadecimal characters")
    return value.lower()


def _ratio(value: Any) -> float:
    try:
        ratio = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        ratio = -1.0
    if not 0 <= ratio <= SEED_RATIO_MAX:
        raise Rejected("seed_ratio", f"{repr(value)[:SHOWN_MAX]} is out of range", fix=f"a number from 0 to {SEED_RATIO_MAX:g}")
    return ratio


def _speed(value: Any) -> int:
    speed = read_size(value.removesuffix("/s")) if isinstance(value, str) else value
    if isinstance(speed, bool) or not isinstance(speed, int) or not RATE_MIN <= speed <= SPEED_MAX:
        least = f"at least {RATE_MIN} bytes a second"
        raise Rejected("max_speed", f"{str(value)[:SHOWN_MAX]!r} is no speed", fix=f"{least}, as a number or a text such as 2 MiB")
    return speed


def _no_directory(_value: Any) -> str:
    raise Rejected("out", "only the machine's owner may choose a directory", fix="leave it out; the result says where the file is")


def _directory(value: Any) -> str:
    if not isinstance(value, str) or not value or _CONTROL.search(value):
        raise Rejected("out", "must be a directory", fix="give a path without control characters")
    _size("out", value)
    return value
