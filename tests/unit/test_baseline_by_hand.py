"""Captures that somebody wrote, or changed, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.captures import System
from worker.jobs.errors import Rejected
from worker.maintenance.baseline import suite
from worker.maintenance.baseline.document import read

FIGURE = "store.read_ms"
HUGE = 10**400


def short(value: Any) -> str:
    return str(value)[:9]


def changed(*where: str, to: Any) -> str:
    document = json.loads(System(1).capture().text)
    inside = document
    for name in where[:-1]:
        inside = inside[name]
    inside[where[-1]] = to
    return json.dumps(document)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), HUGE, "nan", None, [], {}], ids=short)
@pytest.mark.parametrize("field", ["median", "mad", "n"])
def test_a_figure_that_is_no_number_makes_no_capture(field: str, value: Any) -> None:
    with pytest.raises(Rejected, match="is no capture of a baseline"):
        read(changed("figures", FIGURE, field, to=value), "x.json")


@pytest.mark.parametrize(("field", "value"), [("n", -3), ("size", float("nan")), ("size", HUGE)], ids=short)
def test_counts_and_sizes_are_what_they_can_be(field: str, value: Any) -> None:
    with pytest.raises(Rejected):
        read(changed("figures", FIGURE, field, to=value), "x.json")


@pytest.mark.parametrize("value", [float("nan"), 1e300, HUGE, -1e20], ids=short)
def test_a_time_without_a_date_makes_no_capture(value: float) -> None:
    with pytest.raises(Rejected):
        read(changed("at", to=value), "x.json")


def test_what_was_not_changed_is_read() -> None:
    assert read(changed("figures", FIGURE, "n", to=3), "x.json").figures[FIGURE].n == 3


def test_a_suite_that_took_no_number_of_seconds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text('<testsuite><testcase name="a" time="nan"/></testsuite>')
    with pytest.raises(Rejected, match="is no result in JUnit XML"):
        suite.read(path)
