"""Health, readiness, metrics."""

from __future__ import annotations

import httpx

from tests.integration.api.caller import add, problem, served, stalling
from tests.integration.doors import DEADLINE_S, snapshot
from worker.api.server import serve_probes
from worker.jobs.states import State
from worker.ports import Services


def test_health_follows_the_loops_of_the_process(services: Services) -> None:
    ages = {"engine-aria2": 0.5, "sweeper": 1.0}
    with served(services, loops=lambda: ages) as (_, http):
        assert http.get("/health").json() == {"status": "ok", "loops": ages}
        ages["sweeper"] = 31.0
        document = problem(http.get("/health"), 503)
        assert "sweeper" in document["detail"]
        assert document["loops"]["sweeper"] == 31.0


def test_ready_names_what_is_down(http: httpx.Client, services: Services) -> None:
    assert "engine aria2" in problem(http.get("/ready"), 503)["detail"]
    services.coordinator.put_snapshot(snapshot())
    checks = http.get("/ready").raise_for_status().json()["checks"]
    assert {name: check["ok"] for name, check in checks.items()} == dict.fromkeys(("store", "redis", "limits", "engine aria2"), True)
    assert 0 < checks["store"]["latency_s"] < 5
    services.coordinator.put_snapshot(snapshot(error="connection refused"))
    assert "connection refused" in problem(http.get("/ready"), 503)["detail"]


def test_metrics_count_the_jobs_of_every_state_and_the_requests_by_route(http: httpx.Client) -> None:
    id = add(http).json()["id"]
    http.get(f"/v1/jobs/{id}")
    http.get("/v1/jobs/unknown")
    http.get("/nowhere")
    http.request("BREW", "/v1/jobs")
    text = http.get("/metrics").text
    for state in State:
        assert f'haul_jobs{{state="{state}"}} {1.0 if state is State.QUEUED else 0.0}' in text
    assert "haul_intake_messages 0.0" in text
    assert "haul_waiting_jobs 1.0" in text
    for method, route, status in (
        ("POST", "/v1/jobs", 201),
        ("GET", "/v1/jobs/{id}", 200),
        ("GET", "/v1/jobs/{id}", 404),
        ("GET", "none", 404),
        ("other", "/v1/jobs", 405),
    ):
        assert f'haul_http_request_seconds_count{{method="{method}",route="{route}",status="{status}"}} 1.0' in text
    assert id not in text


def test_a_store_that_is_down_leaves_its_gauges_out_of_the_metrics(services: Services) -> None:
    with served(services) as (_, http):
        assert "haul_jobs{" in http.get("/metrics").text
    services.cache.clear()  # some seconds later
    with served(stalling(services, "counts")) as (_, http):
        answer = http.get("/metrics")
        assert answer.status_code == 200
        assert "haul_jobs{" not in answer.text


def test_probes_alone_may_be_open_to_others_and_show_no_job(services: Services) -> None:
    services.coordinator.put_snapshot(snapshot())
    probes = serve_probes(services, host="0.0.0.0", port=0, loops=lambda: {"sweeper": 0.5})
    probes.start()
    with httpx.Client(base_url=probes.url.replace("0.0.0.0", "127.0.0.1"), timeout=DEADLINE_S, trust_env=False) as http:
        for path in ("/health", "/ready", "/metrics"):
            assert http.get(path, headers={"host": "supervisor-1:9100"}).status_code == 200, path
        for path in ("/v1/jobs", "/v1/events", "/openapi.json"):
            problem(http.get(path), 404)
    probes.stop()
