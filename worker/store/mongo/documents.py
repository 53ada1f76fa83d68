"""Documents of the MongoDB store and what they stand for: jobs and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from bson import ObjectId

from worker.jobs.content import held, shown_keys
from worker.jobs.document import from_document, to_document
from worker.jobs.model import Job
from worker.jobs.needs import needs_probe, promised, short_since
from worker.jobs.states import State
from worker.ports import Change, Run, Usage

Document = dict[str, Any]

#: Fields beside the job's own that are there only while they say something; partial indexes hold those alone.
FLAGS = ("at_engine", "needs_owner", "undescribed", "unprobed", "promised", "short", "holding", "following", "contents")

T = TypeVar("T")
K = TypeVar("K")


def new_document(job: Job, place: int, op: ObjectId) -> Document:
    """The whole document of a job that is recorded now.

    Args:
        place: its place in the order of recording, and of changes.
        op: marks the write, so that its writer knows it again.
    """
    document = {"_id": job.id, **job_document(job), "progress": asdict(job.progress), "sent": job.sent}
    last = last_event(job)
    if last > job.sent:
        document["untold"] = last
    if job.hook:
        document["hook"] = asdict(job.hook)
    if job.unposted:
        document["unposted"] = last
    return document | {"seq": place, "changed": place, "ops": [op]}


def job_document(job: Job) -> Document:
    """What a change replaces: the job without id, progress, sent and hook, and those of `FLAGS` that hold."""
    document = to_document(job)
    del document["id"], document["progress"], document["sent"], document["hook"]
    at_engine = not job.terminal or (job.state is State.DONE and job.seeding)
    engine = job.transfer.engine if job.transfer and at_engine else None
    flags = (engine, job.needs_owner, job.needs_description, needs_probe(job), promised(job), short_since(job))
    shared = (held(job), job.following, list(shown_keys(job)) or None)
    return document | {
        name: value for name, value in zip(FLAGS, (*flags, *shared), strict=True) if value is not None and value is not False
    }


def last_event(job: Job) -> int:
    """Version of the last event for the outside; 0 when there is none."""
    return max((event.version for event in job.events if event.type), default=0)


def check_follows(change: Change) -> None:
    """Raise ValueError unless the change is one version on."""
    old, new = change.old, change.new
    if (new.id, new.version) != (old.id, old.version + 1):
        raise ValueError(f"{new.id} version {new.version} does not follow {old.id} version {old.version}")


def job_of(document: Document) -> Job:
    """The job of a document; the store's own fields are ignored."""
    return from_document(document | {"id": document["_id"]})


def usage_of(counts: Iterable[Document], sizes: Iterable[Document]) -> dict[str, Usage]:
    """Usage by user, from the results of `queries.user_counts` and `queries.user_bytes`."""
    found = {row["_id"]: Usage(size=int(row["n"])) for row in sizes}
    for row in counts:
        user, n = row["_id"]["user"], int(row["n"])
        known = found.get(user, Usage())
        found[user] = replace(known, queued=n) if row["_id"]["state"] == State.QUEUED else replace(known, running=known.running + n)
    return found


def run_document(run: Run, place: int) -> Document:
    """The document of a run at its place in the ledger; its `_id` tells the writer's own from another's."""
    return {"_id": ObjectId(), "seq": place, **asdict(run), "report": dict(run.report)}


def run_of(document: Document) -> Run:
    """The run of a document."""
    return Run(**{field.name: document[field.name] for field in fields(Run)})


def firsts(items: Iterable[T], key: Callable[[T], K]) -> dict[K, T]:
    """Of items with the same key the first."""
    found: dict[K, T] = {}
    for item in items:
        found.setdefault(key(item), item)
    return found
