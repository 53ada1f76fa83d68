"""Jobs by HTTP: recorded when they are answered for, shown, listed, acted on."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.integration.api.caller import URI, add, problem
from tests.integration.doors import snapshot
from worker.api.schemas import JobView
from worker.jobs.states import State
from worker.jobs.view import job_view
from worker.ports import Services


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


def test_no_error_repeats_the_secrets_of_a_uri(http: httpx.Client) -> None:
    answer = add(http, uri="https://ann:hunter2@example.org:port/x?token=hunter3")
    problem(answer, 422, "uri")
    assert "hunter" not in answer.text
    shown = add(http, uri="https://ann:hunter2@example.org/x?token=hunter3")
    assert shown.status_code == 201
    assert "hunter" not in shown.text


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


def test_queue_and_engines_show_what_runs_and_waits(http: httpx.Client, services: Services) -> None:
    services.coordinator.put_snapshot(snapshot())
    add(http)
    queue = http.get("/v1/queue").json()
    assert (queue["jobs"]["queued"], queue["jobs"]["done"], queue["waiting"]) == (1, 0, 1)
    [engine] = http.get("/v1/engines").json()["engines"]
    assert (engine["name"], engine["up"], engine["slots"], engine["speed"]) == ("aria2", True, 4, 7)
