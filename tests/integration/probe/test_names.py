"""Names of what is not asked for its size are looked at all the same."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.answers import resolving
from tests.integration.doors import accepted, now, services_on
from worker import pipeline
from worker.admission.guard import Canary, unproved
from worker.cli.servers import Server
from worker.engines.fake import FakeEngine
from worker.jobs.model import Job
from worker.jobs.states import Action, Cause, Reason, State
from worker.ports import Services, Step
from worker.settings import load


@pytest.fixture
def checked(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32", probe="never", egress="checked") as services:
        yield services


def looked_at(services: Services, uri: str, **spec: Any) -> Job:
    job = accepted(services, uri, **spec)
    pipeline.run(services, Step.PROBE)
    return now(services, job)


@pytest.mark.parametrize("uri", ["http://inner.example/x", "ftp://inner.example/x", "https://user:pw@inner.example/x"])
def test_without_probes_a_name_is_resolved_and_judged_before_its_job_is_admitted(
    checked: Services, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    resolving(monkeypatch, {"inner.example": ["10.1.2.3"], "open.example": ["127.0.0.1"]})
    assert accepted(checked, uri).reason is Reason.PROBE
    refused = looked_at(checked, uri)
    assert (refused.state, refused.cause) == (State.FAILED, Cause.REFUSED)
    assert refused.message == "the server's address is in a private network (private)"
    passed = looked_at(checked, uri.replace("inner", "open"))
    assert (passed.state, passed.reason) == (State.QUEUED, Reason.TURN)


def test_an_address_needs_no_look_and_the_owner_none_at_all(checked: Services) -> None:
    assert accepted(checked, "http://127.0.0.1/x").reason is Reason.TURN
    assert accepted(checked, "http://example.org/x", owner=True).reason is Reason.TURN


def test_a_name_that_cannot_be_resolved_is_looked_at_again_and_then_fails(checked: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    real = socket.getaddrinfo
    job = accepted(checked, "http://gone.example/x")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda host, *a, **o: unknown() if "gone" in host else real(host, *a, **o))
        pipeline.run(checked, Step.PROBE)
        assert now(checked, job).state is State.FAILED, "both looks are of one run, for the second is due soon"
        assert [event.text for event in now(checked, job).events][-2].endswith("it is looked at again in 1 s")
    assert (now(checked, job).cause, now(checked, job).message) == (Cause.UNREACHABLE, "the server's name cannot be resolved")


def test_a_tracker_whose_name_leads_inside_is_left_out_and_the_job_goes_on(checked: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {"blocked.example": ["0.0.0.0"], "good.example": ["93.184.216.34"]})
    head = "magnet:?xt=urn:btih:" + "a1" * 20
    job = looked_at(checked, f"{head}&tr=http://blocked.example/a&tr=http://good.example/a", key="k")
    assert (job.state, job.reason, job.source.uri) == (State.QUEUED, Reason.TURN, f"{head}&tr=http://good.example/a")
    assert "blocked.example" in job.events[-1].text
    again = accepted(checked, f"{head}&tr=http://blocked.example/a&tr=http://good.example/a", key="k")
    assert again.id == job.id, "the same request is still known by its key"
    assert pipeline.control(checked, job.id, Action.PAUSE).state is State.PAUSED
    assert pipeline.control(checked, job.id, Action.RESUME).reason is Reason.TURN, "it is not looked at twice"


def test_where_the_kernel_guards_names_are_left_to_it(checked: Services) -> None:
    guarded = replace(checked, settings=checked.settings.model_copy(update={"egress": "guarded"}))
    assert accepted(guarded, "http://nobody-asks.example/x").reason is Reason.TURN


def test_an_allowed_address_proves_no_guard() -> None:
    open_to_all = load(engines="aria2+http://127.0.0.1:1", allow_networks="127.0.0.0/8")
    assert "cannot be tried" in str(unproved(FakeEngine("/nowhere"), open_to_all))


@pytest.mark.parametrize(
    ("addresses", "hosts"),
    [
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc"], ["127.0.0.1"]),
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc", "qbittorrent+http://u:p@[2001:db8::1]:8080"], []),
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc", "embedded"], []),
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc", "aria2+http://:s@no.such.host.invalid:6800/jsonrpc?name=b"], []),
    ],
    ids=["each", "none by IPv4", "not known yet", "not found"],
)
@pytest.mark.parametrize("by", ["list", "file"])
def test_nothing_is_proved_by_an_address_that_is_not_on_the_way_to_each_engine(
    tmp_path: Path, by: str, addresses: list[str], hosts: list[str]
) -> None:
    file = tmp_path / "engines"
    file.write_text("# ours\n" + "\n".join(addresses))
    named: dict[str, Any] = {"engines": ",".join(addresses)} if by == "list" else {"engines_file": file}
    canary = Canary(load(data_dir=tmp_path, **named))
    with canary:
        assert canary.hosts == hosts
