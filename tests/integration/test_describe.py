"""The step that fetches `.torrent` files: a real store, a real Valkey, real servers; and torrents that came with their request."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.answers import answering, resolving, said
from tests.integration.doors import DEADLINE_S, accepted, now, sent, services_on, until
from tests.origin import Origin
from tests.torrents import pack
from worker import pipeline
from worker.admission import describe as module
from worker.cli.servers import Server
from worker.jobs.document import to_document
from worker.jobs.errors import Conflict, Rejected, Transient
from worker.jobs.model import Job
from worker.jobs.requests import parse
from worker.jobs.states import Action, Cause, Reason, State
from worker.ports import Change, Features, Services, Step, WaitingJob

MADE = pack(version="hybrid")
V2_ALONE = pack(version="v2")


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32") as services:
        yield services


def text(document: bytes) -> str:
    return base64.b64encode(document).decode()


def described(services: Services, **spec: Any) -> Job:
    """A job after one run of the step."""
    job = accepted(services, **spec)
    pipeline.run(services, Step.DESCRIBE)
    return now(services, job)


# ---- by URL ----------------------------------------------------------------------------------------------------


def test_a_torrent_by_url_is_fetched_read_and_kept_before_it_waits_for_its_turn(services: Services, origin: Origin) -> None:
    job = accepted(services, uri=origin.document("a.torrent", MADE.document), select="1,5")
    assert (job.reason, job.needs_description, services.coordinator.waiting_size()) == (Reason.DESCRIPTION, True, 0)
    steps = sent(services)
    assert Step.DESCRIBE in steps
    assert Step.ADMIT not in steps

    pipeline.run(services, Step.DESCRIBE)

    known = now(services, job)
    assert (known.state, known.reason, known.select) == (State.QUEUED, Reason.TURN, (1, 5))
    assert known.description
    assert (known.description.v1, known.description.v2, known.description.files) == (MADE.v1, MADE.v2, 3)
    assert services.store.torrents([known.description.document]) == {known.description.document: MADE.document}
    assert services.coordinator.waiting_size() == 1
    assert Step.ADMIT in sent(services)
    assert known.events[-1].text == f"the torrent has 3 files, {MADE.size} bytes"


@pytest.mark.parametrize(
    ("path", "cause", "words"),
    [
        ("status/404", Cause.NOT_FOUND, "status 404"),
        ("status/403", Cause.FORBIDDEN, "status 403"),
        ("file", Cause.SOURCE, "the .torrent file is not bencoded"),
        ("file?size=10000001&", Cause.SOURCE, "more than 10000000 bytes"),
    ],
)
def test_what_cannot_be_had_or_is_no_torrent_fails_by_cause(
    services: Services, origin: Origin, path: str, cause: Cause, words: str
) -> None:
    path, _, query = path.partition("?")
    with answering(lambda connection: connection.sendall(said(b"", "302 Found", f"Location: {origin.url(path)}?{query}"))) as url:
        job = described(services, uri=url)
    assert (job.state, job.cause) == (State.FAILED, cause)
    assert words in (job.message or "")
    assert Step.NOTIFY in sent(services)
    assert services.store.undescribed(1) == []


def test_a_selection_outside_the_torrent_fails_with_the_number_of_files(services: Services, origin: Origin) -> None:
    job = described(services, uri=origin.document("b.torrent", MADE.document), select="7")
    assert (job.state, job.cause, job.message) == (State.FAILED, Cause.SOURCE, "there is no file 7: the torrent has 3 files")


def test_a_torrent_that_no_engine_can_fetch_fails_and_says_so(services: Services, origin: Origin) -> None:
    job = described(services, uri=origin.document("v2.torrent", V2_ALONE.document))
    assert (job.state, job.cause) == (State.FAILED, Cause.UNSUPPORTED)
    assert "version 2 alone" in (job.message or "")


def test_a_server_that_is_busy_is_asked_again(services: Services) -> None:
    asked: list[float] = []

    def busy_first(connection: socket.socket) -> None:
        asked.append(time.monotonic())
        connection.sendall(said(b"later", "503 Busy") if len(asked) == 1 else said(MADE.document))

    with answering(busy_first) as url:
        job = described(services, uri=url)
    assert (job.reason, len(asked)) == (Reason.TURN, 2), "a retry that is due soon is waited for"
    assert 0.4 < asked[1] - asked[0] < 2
    assert any("(status 503); its .torrent file is fetched again" in event.text for event in job.events)


def test_why_says_what_is_done_and_when_it_is_tried_again(services: Services, origin: Origin) -> None:
    job = accepted(services, uri=origin.url("status/503") + "/x.torrent")
    assert pipeline.why(services, job.id).text == "its .torrent file is being fetched"
    waits = services.store.get([job.id])[job.id].noted(1.0, not_before=services.store.now() + 30, message="busy", failures=1)
    services.store.apply([Change(job, waits)])
    answer = pipeline.why(services, job.id)
    assert "fetched again in" in answer.text
    assert answer.reason == Reason.DESCRIPTION
    assert answer.retry_in_s == pytest.approx(30, abs=2)


def test_what_is_not_due_is_left_alone(services: Services, origin: Origin) -> None:
    job = accepted(services, uri=origin.document("later.torrent", MADE.document))
    services.store.apply([Change(job, job.noted(1.0, not_before=services.store.now() + 3_600))])
    pipeline.run(services, Step.DESCRIBE)
    assert now(services, job).needs_description
    assert origin.requests["/doc/later.torrent"] == 0


def test_a_guarded_job_is_not_led_into_a_private_network_and_the_owners_is(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, {"public.example": ["127.0.0.2"]})
    with answering(lambda connection: connection.sendall(said(MADE.document)), "127.0.0.2") as url:
        named = url.replace("127.0.0.2", "public.example")
        job = described(services, uri=named)
        assert (job.state, job.cause) == (State.FAILED, Cause.REFUSED)
        [answer] = pipeline.accept(services, [parse({"uri": named, "user": "owner"}, owner=True)])
        pipeline.run(services, Step.DESCRIBE)
        assert now(services, answer.job).description  # type: ignore[union-attr]


# ---- many, at once, and interrupted ----------------------------------------------------------------------------


class Gate:
    """A server that keeps its answers until it is opened."""

    def __init__(self, document: bytes) -> None:
        self.asked, self.open = threading.Semaphore(0), threading.Event()
        self._document = document

    def __call__(self, connection: socket.socket) -> None:
        self.asked.release()
        assert self.open.wait(DEADLINE_S)
        connection.sendall(said(self._document))


def in_background(run: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_two_runs_fetch_a_file_once(services: Services) -> None:
    gate = Gate(MADE.document)
    with answering(gate) as url:
        job = accepted(services, uri=url)
        first = in_background(lambda: pipeline.run(services, Step.DESCRIBE))
        assert gate.asked.acquire(timeout=DEADLINE_S)
        assert pipeline.run(replace(services, owner="another"), Step.DESCRIBE) == 0
        gate.open.set()
        first.join(DEADLINE_S)
    assert now(services, job).description
    assert not gate.asked.acquire(blocking=False), "it was asked once"


def test_jobs_that_come_while_a_slow_server_is_waited_for_do_not_wait(services: Services, origin: Origin) -> None:
    gate = Gate(MADE.document)
    with answering(gate) as url:
        slow = accepted(services, uri=url)
        run = in_background(lambda: pipeline.run(services, Step.DESCRIBE))
        assert gate.asked.acquire(timeout=DEADLINE_S)
        quick = accepted(services, uri=origin.document("quick.torrent", MADE.document))
        until(lambda: now(services, quick).description, "the newcomer is described")
        assert now(services, slow).needs_description
        gate.open.set()
        run.join(DEADLINE_S)
    assert now(services, slow).description


def test_a_hundred_torrents_are_fetched_in_one_run(services: Services, origin: Origin) -> None:
    url = origin.document("many.torrent", MADE.document)
    jobs = [accepted(services, uri=url) for _ in range(100)]
    assert pipeline.run(services, Step.DESCRIBE) == 100
    assert all(job.description for job in services.store.get([job.id for job in jobs]).values())


def test_after_a_run_that_died_another_takes_over(services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    job = accepted(services, uri=origin.document("taken.torrent", MADE.document))
    assert services.coordinator.claim(module.DESCRIBE, "dead", 0.3)
    assert pipeline.run(services, Step.DESCRIBE) == 0
    until(lambda: pipeline.run(services, Step.DESCRIBE), "the claim runs out")
    assert now(services, job).description


def test_a_store_that_failed_between_file_and_record_is_made_up_for(services: Services, origin: Origin) -> None:
    job = accepted(services, uri=origin.document("again.torrent", MADE.document))

    class Failing:
        def __getattr__(self, name: str) -> Any:
            if name == "apply":
                raise Transient("store", "did not answer")
            return getattr(services.store, name)

    failing: Any = Failing()
    with pytest.raises(Transient):
        pipeline.run(replace(services, store=failing), Step.DESCRIBE)
    assert now(services, job) == job
    assert pipeline.run(services, Step.DESCRIBE) == 1
    assert now(services, job).description


def test_a_fault_of_ours_ends_one_job_and_no_other(services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = accepted(services, uri=origin.document("bad.torrent", b"bad"))
    good = accepted(services, uri=origin.document("good.torrent", MADE.document))
    real = module.torrents.describe

    def describe(document: bytes, select: Any) -> Any:
        if document == b"bad":
            raise RuntimeError("ours")
        return real(document, select)

    monkeypatch.setattr(module.torrents, "describe", describe)
    pipeline.run(services, Step.DESCRIBE)
    assert (now(services, bad).state, now(services, bad).cause) == (State.FAILED, Cause.WORKER)
    assert now(services, good).description


def test_a_pause_or_cancel_during_the_fetch_wins(services: Services) -> None:
    gate = Gate(MADE.document)
    with answering(gate) as url:
        paused, cancelled = accepted(services, uri=url), accepted(services, uri=url)
        run = in_background(lambda: pipeline.run(services, Step.DESCRIBE))
        assert gate.asked.acquire(timeout=DEADLINE_S)
        assert pipeline.control(services, paused.id, Action.PAUSE).state is State.PAUSED
        assert pipeline.control(services, cancelled.id, Action.CANCEL).state is State.CANCELLED
        gate.open.set()
        run.join(DEADLINE_S)
        assert [now(services, job).state for job in (paused, cancelled)] == [State.PAUSED, State.CANCELLED]
        assert services.coordinator.waiting_size() == 0
        sent(services)
        for job, action in ((paused, Action.RESUME), (cancelled, Action.RETRY)):
            assert pipeline.control(services, job.id, action).reason is Reason.DESCRIPTION
        assert services.coordinator.waiting_size() == 0
        assert {Step.DESCRIBE} <= {*sent(services)} <= {Step.DESCRIBE, Step.NOTIFY}
        assert pipeline.run(services, Step.DESCRIBE) == 2
    assert services.coordinator.waiting_size() == 2


def test_a_failed_fetch_is_retried_when_the_user_asks(services: Services, origin: Origin) -> None:
    job = described(services, uri=origin.url("doc/comes-later.torrent"))
    assert job.cause is Cause.NOT_FOUND
    origin.document("comes-later.torrent", MADE.document)
    pipeline.control(services, job.id, Action.RETRY)
    pipeline.run(services, Step.DESCRIBE)
    assert now(services, job).description


def test_a_sweep_finds_what_is_to_be_described_and_does_not_take_the_index_for_broken(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt: list[int] = []
    monkeypatch.setattr(pipeline, "rebuild", lambda _services: rebuilt.append(1))
    job = accepted(services, uri=origin.document("swept.torrent", MADE.document))
    assert pipeline.sweep(services) == [Step.DESCRIBE, Step.NOTIFY]
    accepted(services, uri="http://example.org/file")
    assert {Step.DESCRIBE, Step.ADMIT} <= {*pipeline.sweep(services)}
    assert rebuilt == []
    pipeline.run(services, Step.DESCRIBE)
    services.coordinator.drop_waiting([job.id])
    pipeline.sweep(services)
    assert rebuilt == [1], "a job that is missing is noticed"


def test_an_index_that_is_made_anew_leaves_out_what_is_not_described(services: Services, origin: Origin) -> None:
    accepted(services, uri=origin.document("left-out.torrent", MADE.document))
    accepted(services, uri="http://example.org/file")
    pipeline.sweep(services, rebuilding=True)
    assert services.coordinator.waiting_size() == 1


def test_admission_leaves_a_job_that_is_not_described_alone(services: Services, origin: Origin) -> None:
    job = accepted(services, uri=origin.document("early.torrent", MADE.document))
    services.coordinator.add_waiting([WaitingJob.of(job)])
    pipeline.run(services, Step.ADMIT)
    assert now(services, job) == job
    assert services.coordinator.waiting_size() == 0


# ---- with the request ------------------------------------------------------------------------------------------


def test_a_torrent_that_comes_with_the_request_waits_for_its_turn_at_once(services: Services) -> None:
    job = accepted(services, torrent=text(MADE.document), key="k")
    digest = hashlib.sha256(MADE.document).hexdigest()
    assert (job.reason, job.source.shown, job.needs_description) == (Reason.TURN, f"torrent:{digest}", False)
    assert services.store.torrents([digest]) == {digest: MADE.document}
    assert services.coordinator.waiting_size() == 1
    steps = sent(services)
    assert Step.ADMIT in steps
    assert Step.DESCRIBE not in steps
    assert len(json.dumps(to_document(job))) < 2_000, "the record does not hold the file"


def test_the_same_torrent_under_a_key_is_one_job_and_another_a_conflict(services: Services) -> None:
    first = accepted(services, torrent=text(MADE.document), key="k")
    assert accepted(services, torrent=text(MADE.document), key="k") == first
    with pytest.raises(Conflict):
        accepted(services, torrent=text(pack().document), key="k")


@pytest.mark.parametrize(
    ("spec", "field"),
    [({"torrent": text(V2_ALONE.document)}, "torrent"), ({"uri": V2_ALONE.magnet()}, "uri")],
)
def test_a_torrent_of_version_2_alone_is_refused_where_no_engine_speaks_it(services: Services, spec: dict[str, str], field: str) -> None:
    with pytest.raises(Rejected, match="version 2 alone") as refused:
        accepted(services, **spec)
    assert refused.value.field == field
    engine: Any = services.engines["aria2"]
    engine.features = Features(kinds=engine.features.kinds, bittorrent_v2=True)
    assert accepted(services, **spec).state is State.QUEUED


def test_nothing_is_recorded_when_the_file_cannot_be_kept(services: Services) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            if name == "keep_torrent":
                raise Transient("store", "did not answer")
            return getattr(services.store, name)

    failing: Any = Failing()
    with pytest.raises(Transient):
        accepted(replace(services, store=failing), torrent=text(MADE.document), key="k")
    assert services.store.counts() == {}
    assert accepted(services, torrent=text(MADE.document), key="k").state is State.QUEUED
