"""The record of a job as JSON values: one document a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from worker.jobs.description import Description
from worker.jobs.events import Event, EventType
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress, Result, Source, SourceKind, Transfer
from worker.jobs.probe import Probe
from worker.jobs.states import Cause, Phase, Reason, State, Want
from worker.jobs.tried import Tried


def to_document(job: Job) -> dict[str, Any]:
    """The job as JSON values; `progress` is included and written apart by the stores."""
    document = job.values()
    document["source"] = _plain(job.source)
    document["description"] = _plain(job.description) if job.description else None
    document["probe"] = _plain(job.probe) if job.probe else None
    document["transfer"] = _plain(job.transfer) if job.transfer else None
    document["progress"] = _plain(job.progress)
    document["result"] = _plain(job.result) if job.result else None
    document["hook"] = _plain(job.hook) if job.hook else None
    document["select"] = list(job.select)
    document["events"] = [_plain(event) for event in job.events]
    document["avoid"] = list(job.avoid)
    document["tried"] = [_plain(entry) for entry in job.tried]
    return document


def brief(job: Job) -> dict[str, Any]:
    """The same with the fields alone that are not as in every new job, parts as they are; for what writes dataclasses as JSON by itself.

    So the defaults of `Job` are a part of the format.
    """
    return {name: value for name, value in job.values().items() if value is not (default := _DEFAULTS[name]) and value != default}


def from_document(document: dict[str, Any]) -> Job:
    """The inverse of `to_document`; fields a newer version added are ignored at any depth, absent ones have their default."""
    known = {name: value for name, value in document.items() if name in _DEFAULTS}
    known["source"] = Source(SourceKind(document["source"]["kind"]), document["source"]["uri"])
    known["select"] = tuple(document.get("select") or ())
    known["events"] = tuple(
        [
            Event(e["version"], e["at"], e["text"], EventType(e["type"]) if e["type"] else None, e["data"])
            for e in document.get("events", ())
        ]
    )
    known["avoid"] = tuple(document.get("avoid") or ())
    known["tried"] = tuple(
        Tried(**{**{name: entry[name] for name in Tried.__match_args__ if name in entry}, "cause": Cause(entry["cause"])})
        for entry in document.get("tried") or ()
    )
    for name, kind in _PARTS.items():
        if (part := known.get(name)) is not None:
            known[name] = kind(**{field: part[field] for field in kind.__match_args__ if field in part})
    for name, enum in _ENUMS.items():
        if (value := known.get(name)) is not None:
            known[name] = enum(value)
    return Job(**known)


_DEFAULTS: Mapping[str, Any] = {f.name: f.default for f in fields(Job)}
_ENUMS: Mapping[str, Any] = {"state": State, "phase": Phase, "reason": Reason, "cause": Cause, "want": Want}
_PARTS: Mapping[str, Any] = {
    "description": Description,
    "probe": Probe,
    "transfer": Transfer,
    "progress": Progress,
    "result": Result,
    "hook": Hook,
}


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__match_args__}
