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


def to_document(job: Job) -> dict[str, Any]:
    """The job as JSON values; `progress` is included and written apart by the stores."""
    document = {name: getattr(job, name) for name in _JOB_FIELDS}
    document["source"] = _plain(job.source)
    document["description"] = _plain(job.description) if job.description else None
    document["probe"] = _plain(job.probe) if job.probe else None
    document["transfer"] = _plain(job.transfer) if job.transfer else None
    document["progress"] = _plain(job.progress)
    document["result"] = _plain(job.result) if job.result else None
    document["hook"] = _plain(job.hook) if job.hook else None
    document["select"] = list(job.select)
    document["events"] = [_plain(event) for event in job.events]
    return document


def from_document(document: dict[str, Any]) -> Job:
    """The inverse of `to_document`; fields a newer version added are ignored at any depth, absent ones have their default."""
    known = {name: document[name] for name in _JOB_FIELDS if name in document}
    known["source"] = Source(SourceKind(document["source"]["kind"]), document["source"]["uri"])
    known["select"] = tuple(document.get("select") or ())
    known["events"] = tuple(
        Event(e["version"], e["at"], e["text"], EventType(e["type"]) if e["type"] else None, e["data"]) for e in document["events"]
    )
    for name, kind in _PARTS.items():
        if known.get(name) is not None:
            known[name] = kind(**{field: known[name][field] for field in kind.__match_args__ if field in known[name]})
    for name, enum in (("state", State), ("phase", Phase), ("reason", Reason), ("cause", Cause), ("want", Want)):
        if known.get(name) is not None:
            known[name] = enum(known[name])
    return Job(**known)


_JOB_FIELDS = tuple(f.name for f in fields(Job))
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
