"""Metalinks are asked for their files' sizes before a job is admitted: a real store, a real Valkey, real servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.doors import NamedEngine, services_on
from tests.origin import Origin
from worker import pipeline
from worker.cli.servers import Server
from worker.jobs.model import Job
from worker.jobs.probe import Probe
from worker.jobs.requests import parse
from worker.jobs.states import Cause, Reason, State
from worker.ports import Services, Step

ENTRY = "<file name='f{0}'><size>{1}</size><url>{2}</url></file>"
TERABYTES = 900 * 10**12


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32", probe="always", egress="checked") as services:
        yield services


def named(origin: Origin, name: str, *sizes: object, mirror: str = "http://127.0.0.1:9/x") -> str:
    """The address of a metalink whose files have these sizes."""
    files = "".join(ENTRY.format(number, size, mirror) for number, size in enumerate(sizes))
    return origin.document(f"{name}.meta4", f'<metalink xmlns="urn:ietf:params:xml:ns:metalink">{files}</metalink>'.encode())


def looked_at(services: Services, uri: str, *, owner: bool, **spec: Any) -> Job:
    [answer] = pipeline.accept(services, [parse({"user": "ann", "uri": uri, **spec}, owner=owner)])
    assert isinstance(answer, pipeline.Accepted), answer
    assert answer.job.reason is Reason.PROBE
    assert pipeline.why(services, answer.job.id).text == "its source is being asked for its size"
    pipeline.run(services, Step.PROBE)
    return services.store.get([answer.job.id])[answer.job.id]


@pytest.mark.parametrize("owner", [True, False], ids=["the owner's", "guarded"])
def test_space_is_known_before_a_metalink_is_admitted(services: Services, origin: Origin, owner: bool) -> None:
    uri = named(origin, f"known{owner}", 1_000, 500)
    whole, second = looked_at(services, uri, owner=owner), looked_at(services, uri, owner=owner, select="2")
    assert [(job.state, job.reason, job.probe) for job in (whole, second)] == [
        (State.QUEUED, Reason.TURN, Probe(1_500)),
        (State.QUEUED, Reason.TURN, Probe(500)),
    ]


@pytest.mark.parametrize("owner", [True, False], ids=["the owner's", "guarded"])
def test_a_metalink_of_a_size_that_fits_nowhere_never_reaches_an_engine(
    services: Services, origin: Origin, tmp_path: Path, owner: bool
) -> None:
    services = replace(services, engines={"aria2": NamedEngine(directory=str(tmp_path))})
    job = looked_at(services, named(origin, f"large{owner}", 1_000, TERABYTES), owner=owner)
    pipeline.run(services, Step.ADMIT)
    job = services.store.get([job.id])[job.id]
    assert (job.state, job.cause, job.transfer) == (State.FAILED, Cause.REFUSED, None), pipeline.why(services, job.id).text
    assert "the disk has room for" in (job.message or "")


def test_a_size_that_kills_an_engine_is_refused_for_the_owner_too(services: Services, origin: Origin) -> None:
    job = looked_at(services, named(origin, "deadly", 2**63 - 1), owner=True)
    assert (job.state, job.cause, job.message) == (State.FAILED, Cause.REFUSED, "the metalink announces a size that no disk has")


@pytest.mark.parametrize("path", ["status/404/x.meta4", "doc/nothing.meta4", "hang.meta4"])
def test_a_metalink_of_the_owner_that_tells_nothing_is_left_to_its_engine(services: Services, origin: Origin, path: str) -> None:
    origin.document("nothing.meta4", b"<html>")
    job = looked_at(services, origin.url(path), owner=True)
    assert (job.state, job.reason, job.probe) == (State.QUEUED, Reason.TURN, Probe())


def test_a_mirror_of_the_owner_may_be_private_and_that_of_a_guarded_job_may_not(services: Services, origin: Origin) -> None:
    uri = named(origin, "private", 10, mirror="http://10.0.0.1/x")
    assert looked_at(services, uri, owner=True).probe == Probe(10)
    refused = looked_at(services, uri, owner=False)
    assert (refused.state, refused.cause) == (State.FAILED, Cause.REFUSED)
    assert "names a mirror" in (refused.message or "")
