"""The step that asks for the jobs that wait."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.answers import answering, resolving, said
from tests.integration.doors import DEADLINE_S, accepted, now, sent, until
from tests.origin import LAST_MODIFIED, Origin
from worker import pipeline
from worker.admission import ask as asking
from worker.admission import probing as module
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.probe import Probe
from worker.jobs.states import Action, Cause, Reason, State
from worker.ports import Services, Step, WaitingJob


def test_a_job_is_admitted_once_its_source_was_asked(services: Services, origin: Origin) -> None:
    job = accepted(services, origin.url("file/a?size=1000"))
    assert (job.reason, services.coordinator.waiting_size()) == (Reason.PROBE, 0)
    assert pipeline.why(services, job.id).text == "its source is being asked for its size"
    steps = sent(services)
    assert Step.PROBE in steps
    assert Step.ADMIT not in steps
    pipeline.run(services, Step.PROBE)
    known = now(services, job)
    assert (known.state, known.reason, known.probe) == (State.QUEUED, Reason.TURN, Probe(1000, '"1000-0"', LAST_MODIFIED))
    assert services.coordinator.waiting_size() == 1
    assert Step.ADMIT in sent(services)


@pytest.mark.parametrize("path", ["status/404", "status/500", "nolength/x?size=5", "hang/y"])
def test_a_question_without_an_answer_fails_no_job(services: Services, origin: Origin, hasty: None, path: str) -> None:
    job = accepted(services, origin.url(path))
    pipeline.run(services, Step.PROBE)
    known = now(services, job)
    assert (known.state, known.reason, known.probe) == (State.QUEUED, Reason.TURN, Probe())


@pytest.mark.parametrize("uri", ["ftp://127.0.0.1/x", "magnet:?xt=urn:btih:" + "a1" * 20, "ftp://127.0.0.1/x.metalink"])
def test_other_sources_are_not_asked(services: Services, uri: str) -> None:
    assert accepted(services, uri).reason is Reason.TURN


def test_nothing_is_asked_when_the_operator_says_never(services: Services, origin: Origin) -> None:
    never = replace(services, settings=services.settings.model_copy(update={"probe": "never"}))
    job = accepted(never, origin.url("file/once?size=5"))
    assert job.reason is Reason.TURN
    pipeline.run(never, Step.PROBE)
    assert origin.probes["/file/once"] == 0


def test_a_guarded_job_whose_source_leads_into_a_private_network_is_refused(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, {"public.example": ["127.0.0.2"]})
    with answering(lambda connection: connection.sendall(said(b"12345")), "127.0.0.2") as url:
        named = url.replace("127.0.0.2", "public.example").removesuffix(".torrent")
        guarded, owned = accepted(services, named), accepted(services, named, owner=True)
        pipeline.run(services, Step.PROBE)
    refused = now(services, guarded)
    assert (refused.state, refused.cause, refused.probe) == (State.FAILED, Cause.REFUSED, None)
    assert refused.message == "the server's address is in a private network (loopback)"
    assert Step.NOTIFY in sent(services)
    assert now(services, owned).probe == Probe(5)


def test_a_dead_server_holds_up_no_other_and_is_not_asked_again_at_once(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "DEADLINE_S", 3.0)
    with answering(lambda _connection: time.sleep(DEADLINE_S)) as url:
        dead = [accepted(services, url.removesuffix(".torrent") + f"?{n}") for n in range(40)]
        began = time.monotonic()
        run = threading.Thread(target=lambda: pipeline.run(services, Step.PROBE))
        run.start()
        quick = accepted(services, origin.url("file/quick?size=9"))
        until(lambda: now(services, quick).probe, "the other is asked")
        assert sum(now(services, job).probe is None for job in dead) > 30, "before the dead server was given up"
        run.join(2 * DEADLINE_S)
        assert all(now(services, job).probe == Probe() for job in dead)
        assert time.monotonic() - began < 14, "it was waited for once, not five times"


def test_a_resolver_that_takes_for_ever_is_not_waited_for(services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.3)
    real, over = socket.getaddrinfo, threading.Event()

    def slow(host: str, *args: Any, **options: Any) -> Any:
        if host == "slow.example":
            over.wait(DEADLINE_S)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    job = accepted(services, "http://slow.example/x")
    began = time.monotonic()
    assert pipeline.run(services, Step.PROBE) == 1
    assert time.monotonic() - began < DEADLINE_S / 2
    over.set()
    assert now(services, job).probe == Probe()


def test_many_jobs_are_asked_for_in_one_run(services: Services, origin: Origin) -> None:
    jobs = [accepted(services, origin.url(f"file/m{n}?size={n + 1}")) for n in range(150)]
    assert pipeline.run(services, Step.PROBE) == 150
    found = services.store.get([job.id for job in jobs])
    assert [found[job.id].probe.size for job in jobs] == [n + 1 for n in range(150)]  # type: ignore[union-attr]
    assert all(origin.probes[f"/file/m{n}"] == 1 for n in range(150))


def test_a_job_that_was_paused_meanwhile_stays_paused_and_is_asked_for_when_it_is_resumed(services: Services, origin: Origin) -> None:
    job = accepted(services, origin.url("file/paused?size=5"))
    assert pipeline.control(services, job.id, Action.PAUSE).state is State.PAUSED
    assert pipeline.run(services, Step.PROBE) == 0
    assert pipeline.control(services, job.id, Action.RESUME).reason is Reason.PROBE
    assert pipeline.run(services, Step.PROBE) == 1
    assert now(services, job).probe == Probe(5, '"5-0"', LAST_MODIFIED)
    assert pipeline.control(services, job.id, Action.PAUSE).state is State.PAUSED
    assert pipeline.control(services, job.id, Action.RESUME).reason is Reason.TURN, "it is not asked twice"


@pytest.mark.parametrize("point", ["probe.asked", "probe.recorded"])
def test_what_a_crash_leaves_is_found_by_the_sweep(services: Services, origin: Origin, point: str) -> None:
    job = accepted(services, origin.url(f"file/{point}?size=5"))
    with pytest.raises(FailpointHit):
        pipeline.run(replace(services, failpoints=Failpoints(f"{point}:raise:1")), Step.PROBE)
    for _ in range(2):
        pipeline.sweep(services)
        pipeline.run(services, Step.PROBE)
    known = now(services, job)
    assert (known.reason, known.probe) == (Reason.TURN, Probe(5, '"5-0"', LAST_MODIFIED))
    assert services.coordinator.waiting_size() == 1


def test_a_sweep_finds_what_is_to_be_asked_and_does_not_take_the_index_for_broken(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt: list[int] = []
    monkeypatch.setattr(pipeline, "rebuild", lambda _services: rebuilt.append(1))
    accepted(services, origin.url("file/swept?size=5"))
    assert pipeline.sweep(services) == [Step.PROBE, Step.NOTIFY]
    assert rebuilt == []
    job = accepted(services, "ftp://127.0.0.1/x")
    assert {Step.PROBE, Step.ADMIT} <= {*pipeline.sweep(services)}
    services.coordinator.drop_waiting([job.id])
    pipeline.sweep(services)
    assert rebuilt == [1]


def test_admission_leaves_a_job_alone_that_is_still_to_be_asked_for(services: Services, origin: Origin) -> None:
    job = accepted(services, origin.url("file/early?size=5"))
    services.coordinator.add_waiting([WaitingJob.of(job)])
    pipeline.run(services, Step.ADMIT)
    assert now(services, job) == job
    assert services.coordinator.waiting_size() == 0


def test_one_run_is_on_at_a_time(services: Services, origin: Origin) -> None:
    accepted(services, origin.url("file/claimed?size=5"))
    assert services.coordinator.claim(module.PROBE, "another", 30)
    assert pipeline.run(services, Step.PROBE) == 0
    services.coordinator.unclaim(module.PROBE, "another")
    assert pipeline.run(services, Step.PROBE) == 1
