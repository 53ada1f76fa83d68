"""What goes wrong is a problem document, whatever it is and wherever."""

from __future__ import annotations

from pathlib import Path

import httpx
from structlog.testing import capture_logs

from tests.integration.api.caller import add, problem, served, stalling
from tests.integration.doors import services_on
from worker.cli.servers import Server
from worker.jobs.errors import Rejected
from worker.jobs.model import job_id
from worker.ports import Services


def test_unknown_routes_and_methods_are_problems_too(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    problem(http.get("/v2"), 404)
    problem(http.delete("/v1/jobs"), 405)
    assert "allow" in http.delete("/v1/jobs").headers


def test_a_refusal_that_passes_is_429_with_the_time_to_wait(services: Services) -> None:
    busy = stalling(services, "insert", error=Rejected("user", "too many requests", fix="wait", retry_after_s=1.2))
    with served(busy) as (_, http):
        answer = add(http)
        problem(answer, 429, "user")
        assert answer.headers["retry-after"] == "2"


def test_a_store_that_does_not_answer_is_503_with_the_time_to_wait(services: Services) -> None:
    with served(stalling(services, "insert", "get", "page")) as (_, http):
        job = f"/v1/jobs/{job_id('u', 'k')}"
        for answer in (add(http), http.get("/v1/jobs"), http.get(job), http.post(f"{job}/cancel")):
            problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0


def test_a_fault_of_ours_is_a_problem_that_tells_nothing_of_the_inside(services: Services) -> None:
    with served(stalling(services, "page", error=RuntimeError("hunter2"))) as (_, http):
        with capture_logs() as logged:
            answer = http.get("/v1/jobs")
        assert [(line["event"], line["route"]) for line in logged] == [("a request failed", "/v1/jobs")]
        problem(answer, 500)
        assert "hunter2" not in answer.text
        assert 'haul_http_request_seconds_count{method="GET",route="/v1/jobs",status="500"} 1.0' in http.get("/metrics").text


def test_without_redis_jobs_are_recorded_and_shown_and_what_needs_it_is_503(own_valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(own_valkey.url, key_prefix, tmp_path) as services, served(services) as (_, http):
        own_valkey.stop()
        answer = add(http)
        assert answer.status_code == 201
        assert http.get(f"/v1/jobs/{answer.json()['id']}").status_code == 200
        assert http.get(f"/v1/jobs/{answer.json()['id']}/why").status_code == 200
        assert http.get("/v1/jobs").status_code == 200
        assert http.get("/health").status_code == 200
        for path in ("/v1/queue", "/v1/engines", "/v1/events"):
            problem(http.get(path), 503)
        ready = problem(http.get("/ready"), 503)
        assert ready["checks"]["store"]["ok"]
        assert not ready["checks"]["redis"]["ok"]
        text = http.get("/metrics").text
        assert 'haul_jobs{state="queued"} 1.0' in text
        assert "haul_intake_messages NaN" in text
