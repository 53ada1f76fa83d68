"""Rows of the SQLite store and what they stand for: jobs and runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import orjson

from worker.jobs.content import held, shown_keys
from worker.jobs.document import brief, from_document
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, SourceKind
from worker.jobs.needs import needs_probe, promised, short_since
from worker.jobs.states import State
from worker.limits import RECORD_BYTES_MAX
from worker.ports import Change, Run, Usage
from worker.store.refusals import too_large


def row_of(job: Job) -> dict[str, Any]:
    """What the table `jobs` keeps of a job, by column."""
    document = brief(job)
    for apart in ("progress", "sent", "hook"):
        document.pop(apart, None)
    at_engine = not job.terminal or (job.state is State.DONE and job.seeding)
    content, content2, *_ = (*shown_keys(job), None, None)
    return {
        "id": job.id,
        "user": job.user,
        "state": job.state.value,
        "version": job.version,
        "event": max((event.version for event in job.events if event.type), default=0),
        "sent": job.sent,
        "engine": job.transfer.engine if job.transfer and at_engine else None,
        "needs_owner": int(job.needs_owner),
        "undescribed": int(job.needs_description),
        "unprobed": int(needs_probe(job)),
        "promised": promised(job),
        "out": job.out,
        "short_since": short_since(job),
        "document": _bounded(to_json(document)),
        "hook": hook_json(job.hook) if job.hook else None,
        "tier": job.tier,
        "holds": held(job),
        "follows": job.following,
        "content": content,
        "content2": content2,
        "created_at": job.created_at,
        "torrent": int(job.source.kind is SourceKind.TORRENT or job.description is not None),
    }


def _bounded(document: str) -> str:
    if len(document) > RECORD_BYTES_MAX:
        raise too_large()
    return document


def change_row(change: Change) -> dict[str, Any]:
    """The new row, and what the old one must still be. Raises ValueError unless the change is one version on."""
    old, new = change.old, change.new
    if (new.id, new.version) != (old.id, old.version + 1):
        raise ValueError(f"{new.id} version {new.version} does not follow {old.id} version {old.version}")
    return row_of(new) | {"old_version": old.version, "old_state": old.state.value}


def job_of(row: tuple[int, str, int, str | None, str | None]) -> Job:
    """The job of (seq, document, sent, progress, hook)."""
    _, document, sent, progress, hook = row
    values = from_json(document) | {"sent": sent}
    if progress:
        values["progress"] = from_json(progress)
    if hook:
        values["hook"] = from_json(hook)
    return from_document(values)


def hook_json(hook: Hook) -> str:
    """What the column `hook` keeps; queries look into it."""
    return to_json(asdict(hook))


def run_of(row: tuple[str, str, str, float, float | None, int | None, str]) -> Run:
    """The run of a row of `runs`, in the order of its columns."""
    name, slot, owner, started_at, ended_at, ok, report = row
    return Run(name, slot, owner, started_at, ended_at, None if ok is None else bool(ok), from_json(report))


def usage_of(counts: Iterable[tuple[str, str, int]], sizes: Iterable[tuple[str, int]]) -> dict[str, Usage]:
    """Usage by user, from (user, state, jobs) and (user, bytes)."""
    found: dict[str, Usage] = {user: Usage(size=size) for user, size in sizes}
    for user, state, n in counts:
        known = found.get(user, Usage())
        found[user] = replace(known, queued=n) if state == State.QUEUED else replace(known, running=known.running + n)
    return found


def to_json(value: Any) -> str:
    """JSON without blanks; parts of a record may be in it as they are."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # a name on a disk need not be text, and numbers have no end
        return json.dumps(value, separators=(",", ":"), default=asdict)


def from_json(text: str) -> Any:
    """What `to_json` wrote."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
