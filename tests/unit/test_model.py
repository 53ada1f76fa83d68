"""The record of a job: its document, its timeline, its identity, and what it shows of its source."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given

from tests.unit.jobs_by_hypothesis import NOW, a_job, jobs
from worker.jobs.document import from_document, to_document
from worker.jobs.events import TIMELINE_ENTRIES_MAX, Event, EventType, published
from worker.jobs.hooks import Hook
from worker.jobs.model import (
    Job,
    Progress,
    Request,
    Result,
    Source,
    SourceKind,
    Transfer,
    job_id,
    new_job,
)
from worker.jobs.states import State, Want

SOURCE = Source(SourceKind.HTTP, "https://host/file")
TRANSFER = Transfer("t1", "aria2", 1, "/data/.haul/t1/aria2", 30.0)


@given(jobs)
def test_a_job_comes_back_from_json_as_it_was(job: Job) -> None:
    back = from_document(json.loads(json.dumps(to_document(job))))
    assert back == job
    for name in ("source", "transfer", "progress", "result", "events", "state", "want", "select", "hook"):
        assert type(getattr(back, name)) is type(getattr(job, name)), name


@given(jobs)
def test_the_document_has_every_field_of_the_job(job: Job) -> None:
    assert set(to_document(job)) == {field.name for field in fields(Job)}


def test_a_document_of_a_newer_version_is_read_without_what_it_added() -> None:
    job = a_job(state=State.DONE, transfer=TRANSFER, result=Result("/f", 1), progress=Progress(1, 1))
    document = to_document(job)
    document["colour"] = "green"
    for part in ("source", "transfer", "progress", "result"):
        document[part]["colour"] = "green"
    assert from_document(document) == job


def test_a_document_of_an_older_version_gets_the_defaults_of_what_it_lacks() -> None:
    document = to_document(a_job())
    for name in ("tier", "seeding", "select", "failures", "progress"):
        del document[name]
    assert from_document(document) == a_job()


@pytest.mark.parametrize(
    ("kind", "uri", "shown"),
    [
        (SourceKind.HTTP, "https://user:hunter2@host:8443/a/b?token=hunter2#hunter2", "https://host:8443/a/b?…"),
        (SourceKind.HTTP, "https://host/a", "https://host/a"),
        (SourceKind.FTP, "ftp://hunter2@host/a", "ftp://host/a"),
        (SourceKind.TORRENT, "https://host/x.torrent?passkey=hunter2", "https://host/x.torrent?…"),
        (SourceKind.MAGNET, "magnet:?xt=urn:btih:ab&tr=https://t/hunter2", "magnet:?xt=urn:btih:ab"),
        (SourceKind.MAGNET, "magnet:?tr=https://t/hunter2&xt=urn:btih:ab", "magnet:?xt=urn:btih:ab"),
    ],
)
def test_a_source_shows_no_secret(kind: SourceKind, uri: str, shown: str) -> None:
    assert Source(kind, uri).shown == shown


def test_the_id_is_the_same_for_the_same_user_and_key() -> None:
    assert job_id("u", "k") == job_id("u", "k")


def test_the_id_is_another_for_another_user_another_key_and_each_time_without_a_key() -> None:
    ids = [
        job_id("u", "k"),
        job_id("u", "k2"),
        job_id("u2", "k"),
        job_id("uk", ""),
        job_id("", "uk"),
        job_id("u", None),
        job_id("u", None),
    ]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "changes", [{"name": "n"}, {"out": "/o"}, {"sha256": "a" * 64}, {"select": (1,)}, {"source": Source(SourceKind.HTTP, "x")}]
)
def test_requests_for_something_else_differ_in_content(changes: dict[str, Any]) -> None:
    request = Request(SOURCE, "u")
    assert replace(request, **changes).content != request.content


def test_the_same_request_at_another_priority_has_the_same_content() -> None:
    assert Request(SOURCE, "u", priority=9).content == Request(SOURCE, "u").content


def test_a_new_job_is_queued_with_everything_that_was_asked_and_its_first_event_unsent() -> None:
    request = Request(SOURCE, "u", "k", "gold", 7, "n", "/o", "a" * 64, True, "aria2", (1, 2), 1.5, "films", False)
    job = new_job(request, NOW)
    for field in fields(Request):
        if field.name in ("document", "webhook"):  # the store keeps the one; which receiver the other is, the settings know
            continue
        assert getattr(job, field.name) == getattr(request, field.name), field.name
    assert (job.id, job.content, job.state, job.version) == (job_id("u", "k"), request.content, State.QUEUED, 1)
    assert [event.type for event in job.unsent] == [EventType.QUEUED]


def test_each_change_is_one_version_on_and_leaves_the_old_value_alone() -> None:
    job = a_job()
    moved = job.moved(State.SUBMITTING, NOW, "admitted", transfer=TRANSFER, reason=None)
    noted = moved.noted(NOW + 1, want=Want.PAUSE)
    assert (job.version, moved.version, noted.version) == (1, 2, 3)
    assert (job.state, moved.state, noted.state) == (State.QUEUED, State.SUBMITTING, State.SUBMITTING)
    assert (moved.updated_at, moved.transfer, noted.want, noted.events) == (NOW, TRANSFER, Want.PAUSE, moved.events)


def test_a_full_timeline_drops_the_oldest_entries_that_need_not_be_told() -> None:
    job = a_job()
    for i in range(TIMELINE_ENTRIES_MAX + 10):
        job = job.noted(NOW, f"line {i}")
    assert len(job.events) == TIMELINE_ENTRIES_MAX
    assert job.events[-1].text == f"line {TIMELINE_ENTRIES_MAX + 9}"
    assert job.events[0].text == "line 10"


def test_a_full_timeline_keeps_every_event_the_outside_was_not_told() -> None:
    job = new_job(Request(SOURCE, "u"), NOW)
    for i in range(TIMELINE_ENTRIES_MAX + 10):
        job = job.noted(NOW, f"line {i}")
    assert [event.type for event in job.unsent] == [EventType.QUEUED]
    assert len(job.events) == TIMELINE_ENTRIES_MAX


def test_a_full_timeline_keeps_every_event_the_webhook_was_not_told() -> None:
    job = replace(new_job(Request(SOURCE, "u"), NOW), sent=1, hook=Hook("", "host"))
    for i in range(TIMELINE_ENTRIES_MAX + 10):
        job = job.noted(NOW, f"line {i}")
    assert [event.type for event in job.unposted] == [EventType.QUEUED]
    assert job.unsent == ()
    assert replace(job, hook=Hook("", "host", sent=1)).noted(NOW, "more").unposted == ()


def test_a_job_without_a_webhook_has_nothing_to_post() -> None:
    assert new_job(Request(SOURCE, "u"), NOW).unposted == ()


@pytest.mark.parametrize(
    ("state", "want", "needed"),
    [
        (State.SUBMITTING, Want.RUN, True),
        (State.SUBMITTING, Want.CANCEL, True),
        (State.DOWNLOADING, Want.RUN, False),
        (State.DOWNLOADING, Want.PAUSE, True),
        (State.DOWNLOADING, Want.CANCEL, True),
        (State.PAUSED, Want.PAUSE, False),
        (State.PAUSED, Want.RUN, True),
        (State.PAUSED, Want.CANCEL, True),
        (State.FINISHING, Want.RUN, False),
        (State.FINISHING, Want.CANCEL, True),
        (State.QUEUED, Want.RUN, False),
        (State.QUEUED, Want.CANCEL, True),
        (State.DONE, Want.RUN, False),
        (State.CANCELLED, Want.CANCEL, False),
        (State.FAILED, Want.CANCEL, False),
    ],
)
def test_the_owner_is_needed_while_the_engine_is_not_where_the_user_wants_it(state: State, want: Want, needed: bool) -> None:
    assert a_job(state=state, want=want, transfer=TRANSFER).needs_owner is needed


def test_the_owner_is_not_needed_for_a_job_no_engine_has_heard_of() -> None:
    assert not a_job(state=State.QUEUED, want=Want.CANCEL).needs_owner


def test_the_time_to_go_is_known_only_with_a_size_and_a_speed() -> None:
    assert Progress(50, 150, 10).eta_s == 10
    assert Progress(150, 150, 10).eta_s == 0
    assert Progress(50, None, 10).eta_s is None
    assert Progress(50, 150, 0).eta_s is None


def test_a_published_event_has_the_id_of_its_job_and_version() -> None:
    event = Event(3, NOW, "done", EventType.COMPLETED, {"path": "/f"})
    assert published("j1", "u", "k", event) == {
        "id": "j1:3",
        "type": "job.completed",
        "job": "j1",
        "user": "u",
        "key": "k",
        "at": NOW,
        "text": "done",
        "path": "/f",
    }
