"""The HTTP API, served for real on a free port, over a real store and a real Valkey."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.integration.doors import DEADLINE_S, services_on, snapshot, until
from tests.torrents import bencode, pack
from worker import pipeline
from worker.admission import space
from worker.api import events, server
from worker.api.schemas import JobView
from worker.api.server import ApiServer, serve, serve_probes
from worker.cli.servers import Server
from worker.jobs.errors import Rejected, Transient
from worker.jobs.model import job_id
from worker.jobs.states import State
from worker.jobs.torrents import TORRENT_BYTES_MAX
from worker.jobs.view import job_view
from worker.limits import SPACE_RESERVE_BYTES
from worker.ports import Services, Step
from worker.settings import SettingsError

URI = "https://example.org/file.iso"
PROBLEM = "application/problem+json"


@pytest.fixture(autouse=True)
def _short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops waits for the last blocking read of its viewers."""
    monkeypatch.setattr(events, "TAIL_WAIT_S", 0.1)


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path) as services:
        yield services


@contextlib.contextmanager
def served(services: Services, **options: Any) -> Iterator[tuple[ApiServer, httpx.Client]]:
    api = serve(services, host="127.0.0.1", port=0, **options)
    api.start()
    try:
        with httpx.Client(base_url=api.url, timeout=DEADLINE_S, trust_env=False) as client:
            yield api, client
    finally:
        api.stop()


@pytest.fixture
def http(services: Services) -> Iterator[httpx.Client]:
    with served(services) as (_, client):
        yield client


@pytest.fixture(scope="module")
def empty(valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Services]]:
    """An API for tests that record nothing."""
    directory = tmp_path_factory.mktemp("empty")
    with services_on(valkey.url, directory.name, directory) as services, served(services) as (_, client):
        yield client, services


def problem(answer: httpx.Response, status: int, field: str | None = None) -> dict[str, Any]:
    """The problem document of an answer, which has this status and blames this field."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= set(document)
    assert document["status"] == status
    assert field is None or (document["field"], bool(document["fix"])) == (field, True), document
    return document


def add(http: httpx.Client, **spec: Any) -> httpx.Response:
    return http.post("/v1/jobs", json={"uri": URI, "user": "ann", **spec})


class Stalling:
    """A store that is there but does not answer some of its calls."""

    def __init__(self, store: Any, calls: set[str], error: Exception) -> None:
        self._store, self._calls, self._error = store, calls, error

    def __getattr__(self, name: str) -> Any:
        if name not in self._calls:
            return getattr(self._store, name)

        def fail(*_: Any, **__: Any) -> Any:
            raise self._error

        return fail


def stalling(services: Services, *calls: str, error: Exception | None = None) -> Services:
    store: Any = Stalling(services.store, set(calls), error or Transient("store", "did not answer"))
    return replace(services, store=store)


# ---- jobs ------------------------------------------------------------------------------------------------------


def test_a_new_job_is_recorded_when_201_is_answered(http: httpx.Client, services: Services) -> None:
    answer = add(http, key="chat:1", priority=3, name="x.iso", sha256="A" * 64, hash=True, tier="vip", select="1,3-4", seed_ratio=1.5)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    record = services.store.get([answer.json()["id"]])[answer.json()["id"]]
    assert (record.user, record.key, record.priority, record.name, record.tier) == ("ann", "chat:1", 3, "x.iso", "vip")
    assert (record.sha256, record.hash_wanted, record.select, record.seed_ratio) == ("a" * 64, True, (1, 3, 4), 1.5)
    assert record.guarded


def test_a_known_key_answers_200_with_the_same_job_and_records_nothing_new(http: httpx.Client, services: Services) -> None:
    first, again = add(http, key="chat:1"), add(http, key="chat:1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert services.store.counts() == {State.QUEUED: 1}


def test_the_same_key_with_another_source_is_a_conflict_that_names_the_key(http: httpx.Client) -> None:
    add(http, key="chat:1")
    problem(add(http, key="chat:1", uri="https://example.org/other"), 409, "key")


def test_the_same_key_sent_by_many_at_once_is_one_job(http: httpx.Client, services: Services) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: add(http, key="chat:1"), range(48)))
    assert sorted(answer.status_code for answer in answers) == [200] * 47 + [201]
    assert services.store.counts() == {State.QUEUED: 1}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"uri": "gopher://host/x"}, "uri"),
        ({"uri": "magnet:?xt=urn:btih:short"}, "uri"),
        ({"uri": "http://127.0.0.1/x"}, "uri"),
        ({"uri": "https://h/\ud800"}, "uri"),
        ({"uri": None}, "uri"),
        ({"user": ""}, "user"),
        ({"user": None}, "user"),
        ({"user": ["ann"]}, "user"),
        ({"user": True}, "user"),
        ({"priority": -1}, "priority"),
        ({"priority": "3"}, "priority"),
        ({"sha256": "abc"}, "sha256"),
        ({"name": "../x"}, "name"),
        ({"engine": "wget"}, "engine"),
        ({"select": "3-1"}, "select"),
        ({"seed_ratio": -1}, "seed_ratio"),
        ({"hash": "yes"}, "hash"),
        ({"out": "/etc"}, "out"),
        ({"guard": False}, "guard"),
        ({"urii": URI}, "urii"),
    ],
)
def test_bad_input_is_refused_by_name_and_nothing_is_recorded(empty: tuple[httpx.Client, Services], spec: Any, field: str) -> None:
    http, services = empty
    body = json.dumps({"uri": URI, "user": "ann", **spec})
    problem(http.post("/v1/jobs", content=body, headers={"content-type": "application/json"}), 422, field)
    assert services.store.counts() == {}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b'{"uri": "x"}', "text/plain"),
        (b"uri=x", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 50_000, "application/json"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(empty: tuple[httpx.Client, Services], content: bytes, kind: str) -> None:
    http, _ = empty
    answer = http.post("/v1/jobs", content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def test_no_error_repeats_the_secrets_of_a_uri(http: httpx.Client) -> None:
    answer = add(http, uri="https://ann:hunter2@example.org:port/x?token=hunter3")
    problem(answer, 422, "uri")
    assert "hunter" not in answer.text
    shown = add(http, uri="https://ann:hunter2@example.org/x?token=hunter3")
    assert shown.status_code == 201
    assert "hunter" not in shown.text


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1024):
        yield b" " * 1024


JSON = {"content-type": "application/json"}
TOO_LARGE = server.BODY_BYTES_MAX + 1024


@pytest.mark.parametrize("content", [b" " * TOO_LARGE, chunks(TOO_LARGE)], ids=["with a length", "in chunks"])
def test_a_body_that_is_too_large_for_any_torrent_is_refused(empty: tuple[httpx.Client, Services], content: Any) -> None:
    assert "magnet link" in problem(empty[0].post("/v1/jobs", content=content, headers=JSON), 413, "body")["fix"]


def test_large_bodies_that_are_too_many_at_once_are_told_to_come_back(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODIES_BYTES_MAX", 100_000)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
    with served(services) as (api, http), connected(api) as slow:
        slow.sendall(head + b" " * 80_000)
        answer = until(lambda: _refused_as_busy(http), "the slow body counts")
        problem(answer, 503)
        assert answer.headers["retry-after"]
        slow.close()
        until(lambda: not _refused_as_busy(http), "it is not counted for ever")


def _refused_as_busy(http: httpx.Client) -> httpx.Response | None:
    answer = http.post("/v1/jobs", content=b" " * 50_000, headers=JSON)
    return answer if answer.status_code == 503 else None


def test_a_torrent_file_is_a_job_and_its_infohash_and_files_are_shown(http: httpx.Client, services: Services) -> None:
    made = pack(version="hybrid")
    answer = add(http, uri=None, torrent=base64.b64encode(made.document).decode(), key="t", select="1,3")
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["kind"], shown["infohash"], shown["files"], shown["total_bytes"]) == (
        "torrent",
        made.v1,
        3,
        sum(map(len, list(made.files.values())[:2])),
    )
    whole = add(http, uri=None, torrent=base64.b64encode(made.document).decode()).json()
    assert whole["total_bytes"] == made.size
    assert whole["source"] == f"torrent:{hashlib.sha256(made.document).hexdigest()}"
    again = add(http, uri=None, torrent=base64.b64encode(made.document).decode(), key="t", select="1,3")
    assert (again.status_code, again.json()["id"]) == (200, shown["id"])
    problem(add(http, uri=None, torrent=base64.b64encode(pack().document).decode(), key="t", select="1,3"), 409, "key")


def test_a_torrent_that_no_disk_here_can_hold_is_507_in_words(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pack(version="hybrid")
    document = base64.b64encode(made.document).decode()
    monkeypatch.setattr(space, "_seen", lambda _path: (1, space.Volume(SPACE_RESERVE_BYTES + made.size - 1, made.size)))
    found = problem(add(http, uri=None, torrent=document), 507, "torrent")
    assert "and the disk has room for" in found["detail"]
    assert "select" in found["fix"]
    assert add(http, uri=None, torrent=document, select="1").status_code == 201


def test_a_torrent_file_of_the_largest_size_is_taken_and_one_byte_more_is_refused(http: httpx.Client, services: Services) -> None:
    hashes = b"x" * 9_999_800
    info = {"name": "large", "piece length": 16_384, "length": 16_384 * (len(hashes) // 20), "pieces": hashes}
    document = bencode({"info": info})
    most = document + b" " * (TORRENT_BYTES_MAX - len(document))
    assert add(http, uri=None, torrent=base64.b64encode(most).decode()).status_code == 201
    problem(add(http, uri=None, torrent=base64.b64encode(most + b" ").decode()), 422, "torrent")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"uri": None}, "uri"),
        ({"torrent": "YWJj"}, "torrent"),
        ({"uri": None, "torrent": "YWJj"}, "torrent"),
        ({"uri": None, "torrent": "no base64!"}, "torrent"),
        ({"uri": None, "torrent": 7}, "torrent"),
        ({"uri": None, "torrent": base64.b64encode(pack().document).decode(), "select": "9"}, "select"),
    ],
)
def test_a_torrent_that_cannot_be_taken_is_422_and_recorded_nowhere(empty: tuple[httpx.Client, Services], spec: Any, field: str) -> None:
    problem(add(empty[0], **spec), 422, field)
    assert empty[1].store.counts() == {}


def test_a_body_that_does_not_arrive_is_not_waited_for(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_TIMEOUT_S", 0.2)
    with served(services) as (api, _), connected(api) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 408 ")


def test_a_caller_who_never_ends_the_head_of_a_request_is_cut_off(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 1)
    with served(services) as (api, _), connected(api) as silent, connected(api) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: ")
        for connection in (silent, slow):
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b"", "it is closed"


@contextlib.contextmanager
def connected(api: ApiServer) -> Iterator[socket.socket]:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
        yield connection


def test_a_list_is_cut_into_pages_and_filtered(http: httpx.Client) -> None:
    ids = [add(http, key=f"k{n}").json()["id"] for n in range(5)]
    add(http, user="bob")
    http.post(f"/v1/jobs/{ids[0]}/cancel")
    seen, cursor = [], None
    while True:
        page = http.get("/v1/jobs", params={"user": "ann", "limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [job["id"] for job in page["jobs"]]
        if not (cursor := page["cursor"]):
            break
    assert seen == ids[::-1]
    cancelled = http.get("/v1/jobs", params=[("state", "cancelled"), ("state", "done")]).json()
    assert [job["id"] for job in cancelled["jobs"]] == ids[:1]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1000", "limit"), ("state=gone", "state"), ("stat=done", "stat"), ("cursor=%00", "cursor")],
)
def test_a_list_with_a_wrong_parameter_is_refused_by_name(empty: tuple[httpx.Client, Services], query: str, field: str) -> None:
    http, _ = empty
    problem(http.get(f"/v1/jobs?{query}"), 422, field)


def test_a_job_is_shown_with_the_members_the_documentation_lists(http: httpx.Client, services: Services) -> None:
    id = add(http).json()["id"]
    shown = http.get(f"/v1/jobs/{id}").json()
    assert shown == json.loads(json.dumps(job_view(services.store.get([id])[id])))
    assert set(shown) == set(JobView.model_fields)
    JobView.model_validate(shown)


def test_why_answers_in_words(http: httpx.Client) -> None:
    id = add(http).json()["id"]
    answer = http.get(f"/v1/jobs/{id}/why").json()
    assert (answer["id"], answer["state"]) == (id, "queued")
    assert answer["text"]


def test_actions_move_a_job_and_a_wrong_state_is_a_conflict(http: httpx.Client) -> None:
    id = add(http).json()["id"]
    states = [http.post(f"/v1/jobs/{id}/{action}").json()["state"] for action in ("pause", "pause", "resume", "cancel", "retry", "cancel")]
    assert states == ["paused", "paused", "queued", "cancelled", "queued", "cancelled"]
    problem(http.post(f"/v1/jobs/{id}/pause"), 409)


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/why"])
def test_an_unknown_job_is_404(empty: tuple[httpx.Client, Services], path: str) -> None:
    http, _ = empty
    for id in ("0" * 24, "%00", "ü", "x" * 500, "' OR 1=1 --"):
        problem(http.get(path.format(id)), 404, "id")
        problem(http.post(f"/v1/jobs/{id}/pause"), 404, "id")


def test_an_unknown_action_is_refused_by_name(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    problem(http.post(f"/v1/jobs/{'0' * 24}/explode"), 422, "action")


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


def test_queue_and_engines_show_what_runs_and_waits(http: httpx.Client, services: Services) -> None:
    services.coordinator.put_snapshot(snapshot())
    add(http)
    queue = http.get("/v1/queue").json()
    assert (queue["jobs"]["queued"], queue["jobs"]["done"], queue["waiting"]) == (1, 0, 1)
    [engine] = http.get("/v1/engines").json()["engines"]
    assert (engine["name"], engine["up"], engine["slots"], engine["speed"]) == ("aria2", True, 4, 7)


def test_the_documentation_is_served_and_lists_every_route(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    assert http.get("/docs").status_code == 200
    paths = set(http.get("/openapi.json").json()["paths"])
    assert {"/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/{action}", "/v1/events", "/v1/queue", "/health", "/metrics"} <= paths


# ---- who may call ----------------------------------------------------------------------------------------------


def test_with_keys_every_v1_route_needs_one_and_probes_do_not(valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(valkey.url, key_prefix, tmp_path, api_keys="first-key,second-key") as services, served(services) as (_, http):
        paths = [(path, method) for path, item in http.get("/openapi.json").json()["paths"].items() for method in item]
        for path, method in paths:
            answer = http.request(method, path.replace("{id}", "x"), headers={"accept": "*/*"})
            if path.startswith("/v1/"):
                problem(answer, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer")
            else:
                assert answer.status_code != 401, path
        for wrong in ("Bearer x", "Bearer first", "Bearer first-keyy", "Basic first-key", "first-key", "Bearer ü"):
            problem(http.get("/v1/jobs", headers={"authorization": wrong.encode()}), 401)
        for right in ("Bearer first-key", "bearer second-key"):
            assert http.get("/v1/jobs", headers={"authorization": right}).status_code == 200


def test_without_keys_only_loopback_may_be_bound(services: Services) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(SettingsError, match="HAUL_API_KEYS"):
            serve(services, host=host, port=0)


def test_without_keys_a_web_page_under_another_name_is_not_served(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    problem(http.get("/v1/jobs", headers={"host": "evil.example:8060"}), 403, "Host")
    for host in ("localhost:8060", "127.0.0.1", "[::1]:8060"):
        assert http.get("/v1/jobs", headers={"host": host}).status_code == 200


# ---- health, metrics -------------------------------------------------------------------------------------------


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


# ---- events ----------------------------------------------------------------------------------------------------


class Viewer:
    """Reads server-sent events off a socket, as a browser does."""

    def __init__(self, http: httpx.Client, user: str | None = None, last: str | None = None) -> None:
        self._stream = http.stream(
            "GET", "/v1/events", params={"user": user} if user else {}, headers={"last-event-id": last} if last else {}
        )
        self.last_id = last
        self.comments = 0

    def __enter__(self) -> Viewer:
        self.answer = self._stream.__enter__()
        self._lines = self.answer.iter_lines()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(None, None, None)

    def frames(self) -> Iterator[dict[str, str]]:
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(":")
            if line:
                self.comments += not name
                fields[name] = value.removeprefix(" ")
                continue
            self.last_id = fields.get("id", self.last_id)
            yield fields
            fields = {}

    def place(self) -> str:
        """The place the server named first."""
        while self.last_id is None:
            next(self.frames())
        return self.last_id

    def events(self, count: int) -> list[dict[str, Any]]:
        found = [json.loads(frame["data"]) for _, frame in zip(range(count), self._with_data(), strict=False)]
        assert len(found) == count, "the stream ended early"
        return found

    def _with_data(self) -> Iterator[dict[str, str]]:
        return (frame for frame in self.frames() if "data" in frame)


def told(number: int, user: str = "ann") -> dict[str, Any]:
    return {"id": f"job:{number}", "type": "job.started", "job": "job", "user": user, "key": None, "at": 1.5, "text": "line\nline"}


def test_events_reach_a_viewer_as_they_happen(http: httpx.Client, services: Services) -> None:
    with Viewer(http) as viewer:
        assert viewer.answer.headers["content-type"].startswith("text/event-stream")
        viewer.place()
        began = time.monotonic()
        id = add(http).json()["id"]
        pipeline.run(services, Step.NOTIFY)
        [event] = viewer.events(1)
        assert (event["type"], event["job"], event["user"]) == ("job.queued", id, "ann")
        assert time.monotonic() - began < 1.0


def test_a_viewer_who_comes_back_sees_what_it_missed(http: httpx.Client, services: Services) -> None:
    with Viewer(http) as viewer:
        viewer.place()
        services.coordinator.publish([told(1)])
        viewer.events(1)
        place = viewer.last_id
    services.coordinator.publish([told(n) for n in range(2, 600)])
    with Viewer(http, last=place) as viewer:
        assert [event["id"] for event in viewer.events(598)] == [f"job:{n}" for n in range(2, 600)]


def test_a_viewer_of_one_user_sees_only_theirs_and_its_place_moves_with_all(http: httpx.Client, services: Services) -> None:
    with Viewer(http, user="ann") as viewer:
        start = viewer.place()
        services.coordinator.publish([told(1, "bob"), told(2, "ann"), told(3, "bob")])
        assert [event["id"] for event in viewer.events(1)] == ["job:2"]
        services.coordinator.publish([told(4, "bob")])
        before = viewer.last_id
        next(frame for frame in viewer.frames() if viewer.last_id != before)
        assert viewer.last_id not in (before, start)


def test_what_comes_while_a_viewer_reads_is_told_at_once(services: Services) -> None:
    """The stream grows, and wakes everybody, after a viewer has looked and before it knows that there was nothing."""
    coordinator, woken = services.coordinator, threading.Event()

    class Slow:
        def read_events(self, after: str | None, limit: int, wait_s: float) -> Any:
            found = coordinator.read_events(after, limit, wait_s)
            if wait_s and found[0]:
                threading.Timer(0.3, woken.set).start()  # by then the answer has reached the loop
            elif after and not wait_s and not found[0] and not woken.is_set():
                coordinator.publish([told(1)])
                assert woken.wait(DEADLINE_S)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(coordinator, name)

    with served(replace(services, coordinator=Slow())) as (_, http), Viewer(http) as viewer:  # type: ignore[arg-type]
        began = time.monotonic()
        assert [event["id"] for event in viewer.events(1)] == ["job:1"]
        assert time.monotonic() - began < events.KEEP_ALIVE_S / 2


def test_a_place_that_is_gone_is_told_and_reading_goes_on(http: httpx.Client, services: Services) -> None:
    services.coordinator.publish([told(1)])
    with Viewer(http, last="1-1") as viewer:
        [reset] = viewer.events(1)
        assert reset["type"] == "reset"
        assert reset["since"] < time.time()
        services.coordinator.publish([told(2)])
        assert viewer.events(1)[0]["id"] == "job:2"


def test_a_place_that_is_none_is_refused(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    problem(http.get("/v1/events", headers={"last-event-id": "nonsense"}), 422)
    problem(http.get("/v1/events?usr=ann"), 422, "usr")


def test_a_quiet_stream_is_kept_alive(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    with served(services) as (_, http), Viewer(http) as viewer:
        frames = viewer.frames()
        while viewer.comments < 2:
            next(frames)


def test_many_viewers_miss_nothing_while_the_stream_grows(http: httpx.Client, services: Services) -> None:
    def watch(_: int) -> list[str]:
        with Viewer(http) as viewer:
            viewer.place()
            watching.wait(DEADLINE_S)
            return [event["id"] for event in viewer.events(1_000)]

    watching = threading.Barrier(9)
    with ThreadPoolExecutor(8) as pool:
        seen = [pool.submit(watch, n) for n in range(8)]
        watching.wait(DEADLINE_S)
        for first in range(0, 1_000, 50):
            services.coordinator.publish([told(n) for n in range(first, first + 50)])
        for result in seen:
            assert result.result(DEADLINE_S) == [f"job:{n}" for n in range(1_000)]


def test_viewers_are_bounded_and_a_place_is_free_when_one_goes(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "VIEWERS_MAX", 2)
    with served(services) as (_, http):
        with Viewer(http) as one, Viewer(http) as other:
            one.place(), other.place()
            problem(http.get("/v1/events"), 503)

        def watched() -> bool:
            with Viewer(http) as viewer:
                return viewer.answer.status_code == 200

        until(watched, "a viewer that went is noticed")


def test_a_viewer_who_takes_nothing_loses_its_place(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEND_TIMEOUT_S", 0.3)
    monkeypatch.setattr(events, "VIEWERS_MAX", 1)
    with served(services) as (api, http), connected(api) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stuck.recv(12) == b"HTTP/1.1 200"
        large = {**told(1), "text": "x" * 50_000}

        def free() -> bool:
            services.coordinator.publish([large] * 40)
            with Viewer(http) as viewer:
                return viewer.answer.status_code == 200

        until(free, "the place is free again")


def test_viewers_live_through_an_outage_of_redis(own_valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "RETRY_S", 0.1)
    with services_on(own_valkey.url, key_prefix, tmp_path) as services, served(services) as (_, http), Viewer(http) as viewer:
        viewer.place()
        services.coordinator.publish([told(1)])
        viewer.events(1)
        own_valkey.stop()
        restarted = subprocess.Popen(own_valkey.process.args)
        try:
            until(lambda: answers(services.coordinator.ping), "the server is back")
            services.coordinator.publish([told(2)])
            assert viewer.events(1)[0]["id"] == "job:2"
        finally:
            restarted.kill()
            restarted.wait()


def answers(call: Callable[[], Any]) -> bool:
    with contextlib.suppress(Transient):
        call()
        return True
    return False


# ---- the server ------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_refused_before_anything_is_started(services: Services) -> None:
    with served(services) as (api, _):
        port = int(api.url.rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"HAUL_API_PORT: port {port} is in use"):
            serve(services, host="127.0.0.1", port=port)


def test_a_server_that_is_only_made_keeps_the_port_and_gives_it_back(services: Services) -> None:
    first = serve(services, host="127.0.0.1", port=0)
    port = int(first.url.rpartition(":")[2])
    with pytest.raises(SettingsError, match="in use"):
        serve(services, host="127.0.0.1", port=port)
    first.stop()
    serve(services, host="127.0.0.1", port=port).stop()


def test_an_address_of_nobody_is_refused_by_name(valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(valkey.url, key_prefix, tmp_path, api_keys="k") as services:
        for host in ("192.0.2.1", "no such host"):
            with pytest.raises(SettingsError, match="HAUL_API_HOST"):
                serve(services, host=host, port=0)


def test_a_server_in_a_thread_touches_neither_signals_nor_logging(services: Services) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    logging_before = (list(logging.root.handlers), logging.root.level, logging.getLogger("uvicorn").handlers[:])
    urls: list[str] = []
    with served(services, ready=urls.append) as (api, http):
        assert http.get("/health").status_code == 200
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert (list(logging.root.handlers), logging.root.level, logging.getLogger("uvicorn").handlers[:]) == logging_before
        assert urls == [api.url]


def test_stop_ends_the_event_streams_at_once_and_may_be_called_twice(services: Services) -> None:
    before = set(threading.enumerate())
    with served(services) as (api, http), Viewer(http) as viewer:
        viewer.place()
        began = time.monotonic()
        api.stop()
        assert all("data" not in frame for frame in viewer.frames()), "the stream ends, and not with an event"
        assert time.monotonic() - began < 3.0
        assert not {thread for thread in threading.enumerate() if thread.name == "api"} - before


def test_a_request_that_runs_is_finished_before_the_server_stops(services: Services) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(Stalling):
        def page(self, *args: Any) -> Any:
            entered.set()
            leave.wait(DEADLINE_S)
            return services.store.page(*args)

    slow: Any = Slow(services.store, set(), Transient("store", ""))
    with served(replace(services, store=slow)) as (api, http), ThreadPoolExecutor(2) as pool:
        answer = pool.submit(http.get, "/v1/jobs")
        assert entered.wait(DEADLINE_S)
        stopping = pool.submit(api.stop)
        leave.set()
        assert answer.result(DEADLINE_S).status_code == 200
        stopping.result(DEADLINE_S)
