"""Every point between two effects is a place where a test of faults stops the process, and is named in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.tidy.sources import ROOT, modules


def test_a_process_dies_or_stands_still_at_every_point_in_some_test_of_faults() -> None:
    tests = "\n".join(path.read_text() for suite in ("faults", "integration") for path in (ROOT / "tests" / suite).rglob("*.py"))
    assert not [point for point in points() if not re.search(rf"\b{re.escape(point)}\b", tests)]


def test_the_list_of_points_is_complete() -> None:
    [line] = re.findall(r"^Failpoints: (.*)$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"`([a-z.]+)`", line)) == sorted(points()), f"the line should name {' '.join(f'`{p}`' for p in points())}"


def points() -> list[str]:
    """The names of all points, in the order of the modules."""
    return list(dict.fromkeys(point for source in modules().values() for point in _hit(ast.parse(source))))


def _hit(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "hit":
            assert isinstance(node.args[0], ast.Constant), "a point has a name that can be found"
            yield str(node.args[0].value)
