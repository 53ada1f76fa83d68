"""What somebody who does not know the API, or means it harm, is told."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.api.caller import add, problem
from worker.ports import Services

Empty = tuple[httpx.Client, Services]
#: Makes `photo\u202egpj.exe` read as a picture; a line of its own; the start of a terminal's commands.
TURNED, LINE, COMMAND = "a\u202eb", "a\u2028b", "a\x9b2Jb"


@pytest.mark.parametrize("value", [TURNED, LINE, COMMAND])
@pytest.mark.parametrize("field", ["name", "user", "key", "uri"])
def test_what_would_be_shown_otherwise_than_it_is_is_refused(empty: Empty, field: str, value: str) -> None:
    given = f"https://example.org/{value}" if field == "uri" else value
    assert "control characters" in problem(add(empty[0], **{field: given}), 422, field)["detail"]


@pytest.mark.parametrize("field", ["priority", "max_speed", "select"])
def test_a_number_without_end_is_not_repeated(empty: Empty, field: str) -> None:
    content = '{"uri": "https://example.org/x", "user": "ann", "%s": 1%s}' % (field, "0" * 4000)  # noqa: UP031
    answer = empty[0].post("/v1/jobs", content=content, headers={"content-type": "application/json"})
    assert len(problem(answer, 422, field)["detail"]) < 200


def test_a_schedule_without_end_is_not_repeated(empty: Empty) -> None:
    assert len(problem(empty[0].put("/v1/bandwidth", json={"schedule": "1" * 20_000}), 422, "schedule")["detail"]) < 200


def test_a_wrong_path_method_or_body_is_told_with_what_would_be_right(empty: Empty) -> None:
    http, _ = empty
    assert "/docs" in problem(http.get("/v1/job"), 404, "path")["fix"]
    wrong = http.delete("/v1/jobs")
    assert (problem(wrong, 405)["fix"], wrong.headers["allow"]) == ("GET, POST", "GET, POST")
    assert http.post("/v1/bandwidth").headers["allow"] == "GET, PUT"
    deep = http.post("/v1/jobs", content=b"[" * 50_000, headers={"content-type": "application/json"})
    assert "JSON" in problem(deep, 400, "body")["fix"]


def test_a_wrong_place_in_the_stream_is_told_by_the_name_of_its_header(empty: Empty) -> None:
    problem(empty[0].get("/v1/events", headers={"last-event-id": "nonsense"}), 422, "Last-Event-ID")


def test_the_documentation_names_the_kind_of_every_answer(empty: Empty) -> None:
    paths = empty[0].get("/openapi.json").json()["paths"]
    kinds = {path: set(paths[path]["get"]["responses"]["200"]["content"]) for path in ("/v1/events", "/metrics", "/health")}
    assert kinds == {"/v1/events": {"text/event-stream"}, "/metrics": {"text/plain"}, "/health": {"application/json"}}
    assert "503" in paths["/ready"]["get"]["responses"]
