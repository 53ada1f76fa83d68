"""Modules and functions stay short. The list of long modules is a ratchet: its figures go down, never up."""

from __future__ import annotations

import ast
import statistics

from tests.tidy.sources import functions, modules

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 300
MEDIAN_MODULE_LINES_MAX = 120
#: Modules that are longer than MODULE_LINES_MAX, and what each may have. Lower a figure when you can; split a module before you raise one.
LONG_MODULES = {
    "worker/engines/aria2/engine.py": 315,
}


def test_no_function_is_long() -> None:
    long = [
        f"{path}:{function.lineno}: {function.name} has {lines} lines"
        for path, source in modules().items()
        for function in functions(ast.parse(source))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_no_module_grows_beyond_its_figure() -> None:
    grown = {path: lines for path, lines in _lines().items() if lines > LONG_MODULES.get(path, MODULE_LINES_MAX)}
    assert not grown, f"split them along a noun: {grown}"


def test_a_module_that_became_short_leaves_the_list() -> None:
    lines = _lines()
    short = [path for path in LONG_MODULES if lines.get(path, 0) <= MODULE_LINES_MAX]
    assert not short, f"take them out of LONG_MODULES: {short}"


def test_most_modules_are_short() -> None:
    assert statistics.median(lines for path, lines in _lines().items() if not path.endswith("__init__.py")) <= MEDIAN_MODULE_LINES_MAX


def _lines() -> dict[str, int]:
    return {path: len(source.splitlines()) for path, source in modules().items()}
