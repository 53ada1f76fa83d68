"""Who is told of a job is asked at the doors, each of which refuses a receiver that is not the operator's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.doors import services_on
from worker import pipeline
from worker.api.server import serve
from worker.cli.servers import Server
from worker.client import Client
from worker.jobs.events import EventType
from worker.jobs.hooks import FIRST, Hook, receiver_of
from worker.jobs.model import job_id
from worker.ports import Services, Step

URI = "https://example.org/file.iso"
ONE, TWO = "https://one.example/hunter2", "https://two.example:8443/?token=hunter2"


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, webhooks=f"{ONE},{TWO}") as services:
        yield services


def hook(services: Services, id: str) -> Hook | None:
    return services.store.get([id])[id].hook


@pytest.fixture
def http(services: Services) -> Iterator[httpx.Client]:
    api = serve(services, host="127.0.0.1", port=0)
    api.start()
    with httpx.Client(base_url=api.url, timeout=20, trust_env=False) as client:
        yield client
    api.stop()


def test_the_api_takes_a_receiver_of_the_operators_and_shows_its_host_alone(services: Services, http: httpx.Client) -> None:
    asked = http.post("/v1/jobs", json={"uri": URI, "user": "ann", "webhook": TWO})
    default = http.post("/v1/jobs", json={"uri": URI, "user": "ann"})
    assert (asked.status_code, asked.json()["webhook"], default.json()["webhook"]) == (201, "two.example:8443", "one.example")
    assert hook(services, asked.json()["id"]) == Hook(receiver_of(TWO), "two.example:8443")
    assert hook(services, default.json()["id"]) == Hook(FIRST, "one.example")
    shown = http.get(f"/v1/jobs/{asked.json()['id']}").text + http.get("/v1/jobs").text
    assert "two.example:8443" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("webhook", ["https://three.example/hunter2", "http://169.254.169.254/", "nonsense"])
def test_the_api_refuses_any_other_receiver_by_its_field_with_the_fix(http: httpx.Client, webhook: str) -> None:
    answer = http.post("/v1/jobs", json={"uri": URI, "user": "ann", "webhook": webhook})
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, "webhook")
    assert problem["fix"] == "an address at one.example, two.example:8443 is known"
    assert "hunter2" not in answer.text
    assert http.get("/v1/jobs").json()["jobs"] == []


def test_the_same_key_with_another_receiver_is_the_same_job_as_before(services: Services, http: httpx.Client) -> None:
    first, again = (http.post("/v1/jobs", json={"uri": URI, "user": "ann", "key": "k", "webhook": named}) for named in (ONE, TWO))
    assert (first.status_code, again.status_code, first.json()["id"]) == (201, 200, again.json()["id"])
    assert again.json()["webhook"] == "one.example"


def told(valkey: Server, key_prefix: str, services: Services, **spec: Any) -> str:
    """What a bot asks for, as it is recorded; the id."""
    with Client(valkey.url, prefix=key_prefix) as bot:
        bot.enqueue(URI, user="ann", key="k", **spec)
    pipeline.run(services, Step.INTAKE)
    return job_id("ann", "k")


def test_a_bot_names_a_receiver(valkey: Server, key_prefix: str, services: Services) -> None:
    id = told(valkey, key_prefix, services, webhook=TWO)
    assert hook(services, id) == Hook(receiver_of(TWO), "two.example:8443")


def test_a_bot_that_names_another_receiver_is_refused_and_the_first_is_told_so(valkey: Server, key_prefix: str, services: Services) -> None:
    id = told(valkey, key_prefix, services, webhook="https://three.example/")
    [event] = services.store.get([id])[id].unposted
    assert (event.type, event.data["field"]) == (EventType.REFUSED, "webhook")
    assert hook(services, id) == Hook(FIRST, "one.example")


def test_a_refusal_is_told_to_the_receiver_that_was_named(valkey: Server, key_prefix: str, services: Services) -> None:
    id = told(valkey, key_prefix, services, webhook=TWO, engine="none-of-ours")
    assert [event.type for event in services.store.get([id])[id].unposted] == [EventType.REFUSED]
    assert hook(services, id) == Hook(receiver_of(TWO), "two.example:8443")
