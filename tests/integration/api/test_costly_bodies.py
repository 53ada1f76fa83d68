"""Bodies that are small enough to be taken and are made to cost more than they bring."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.integration.api.caller import URI, problem
from worker.api.edge import VALUES_MAX
from worker.jobs.requests import SELECT_MAX
from worker.ports import Services

JSON = {"content-type": "application/json"}
HEAD = b'{"uri": "https://example.org/file.iso", "user": "ann", '
#: One of these took 90 s and 4.8 GB; together they take well under a second now.
BOUND_S = 20.0


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HEAD + b'"select": [' + b'"",' * 2_000_000 + b'""]}', id="wrong values"),
        pytest.param(b'{"uri": [' + b"[]," * 2_000_000 + b"[]]}", id="lists"),
        pytest.param(b"{" + b'"a": 1, ' * 1_000_000 + b'"b": 1}', id="fields"),
        pytest.param(b"[{" * 1_000_000, id="depth"),
    ],
)
def test_a_body_of_countless_values_is_refused_before_it_is_read(empty: tuple[httpx.Client, Services], content: bytes) -> None:
    began = time.monotonic()
    assert str(SELECT_MAX) in problem(empty[0].post("/v1/jobs", content=content, headers=JSON), 413, "body")["fix"]
    assert time.monotonic() - began < BOUND_S


def test_as_many_wrong_values_as_are_read_are_refused_in_time(empty: tuple[httpx.Client, Services]) -> None:
    content = HEAD + b'"select": [' + b'"",' * (VALUES_MAX - 10) + b'""]}'
    began = time.monotonic()
    problem(empty[0].post("/v1/jobs", content=content, headers=JSON), 422, "select")
    assert time.monotonic() - began < BOUND_S


def test_the_longest_selection_is_read(empty: tuple[httpx.Client, Services]) -> None:
    numbers = list(range(1, SELECT_MAX + 1))
    body = {"uri": URI, "user": "ann", "select": numbers, "sha256": "no checksum"}
    problem(empty[0].post("/v1/jobs", json=body), 422, "sha256")
    problem(empty[0].post("/v1/jobs", json={**body, "select": ",".join(map(str, numbers))}), 422, "sha256")


@pytest.mark.parametrize("select", [[1] * (SELECT_MAX + 2), "1," * (SELECT_MAX + 2) + "1"], ids=["list", "text"])
def test_a_selection_that_is_too_long_is_refused_by_name(empty: tuple[httpx.Client, Services], select: object) -> None:
    problem(empty[0].post("/v1/jobs", json={"uri": URI, "user": "ann", "select": select}), 422, "select")
