"""The JSON of what is kept in Redis. Values that cannot be read are absent, never an error: another version may have written them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from worker.coordination.bounds import BODY_BYTES_MAX
from worker.jobs.errors import Rejected
from worker.jobs.model import Progress
from worker.ports import EngineSnapshot

_SNAPSHOT_FIELDS = frozenset(f.name for f in fields(EngineSnapshot))


def body_text(body: Mapping[str, Any]) -> str:
    """An intake message as JSON.

    Raises:
        Rejected: it holds something JSON does not know, or is too long.
    """
    try:
        text = _json(body)
    except (TypeError, ValueError, RecursionError):
        raise Rejected("spec", "holds a value that JSON does not know", fix="use texts, numbers, lists and None") from None
    if len(text) > BODY_BYTES_MAX:
        raise Rejected("spec", f"longer than {BODY_BYTES_MAX} bytes", fix="shorten the longest field")
    return text


def field(values: Sequence[str], name: str) -> str | None:
    """A field of a stream's entry, whose fields and values come in one list."""
    return dict(zip(values[::2], values[1::2], strict=True)).get(name)


def mapping_of(text: str | None) -> Mapping[str, Any] | None:
    """The JSON object a text holds; None when it holds none."""
    try:
        value = json.loads((text or "").encode())  # refuses bytes that were no UTF-8
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def event_text(event: Mapping[str, Any]) -> str:
    """An event as JSON."""
    return _json(event)


def progress_text(progress: Progress) -> str:
    """The five numbers of a progress as a JSON list, in the order of its fields."""
    total = "null" if progress.total is None else progress.total
    return f"[{progress.done},{total},{progress.speed},{progress.uploaded},{progress.connections}]"


def progress_of(text: str | None) -> Progress | None:
    """The inverse of `progress_text`."""
    try:
        done, total, speed, uploaded, connections = json.loads(text or "")
    except (ValueError, TypeError):
        return None
    return Progress(done, total, speed, uploaded, connections)


def snapshot_text(snapshot: EngineSnapshot) -> str:
    """A snapshot as JSON."""
    return _json(asdict(snapshot))


def snapshot_of(text: str | None) -> EngineSnapshot | None:
    """The inverse of `snapshot_text`; fields of a newer version are ignored."""
    values = {name: value for name, value in (mapping_of(text) or {}).items() if name in _SNAPSHOT_FIELDS}
    try:
        return EngineSnapshot(**{**values, "kinds": tuple(values["kinds"])})
    except (KeyError, TypeError):
        return None


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), separators=(",", ":"), allow_nan=False)
