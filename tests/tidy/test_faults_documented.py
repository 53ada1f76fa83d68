"""docs/faults.md is what the tests of faults say of themselves, and every one of them says something."""

from __future__ import annotations

import ast

from tests.faults.catalogue import DOCUMENT, HERE, document, faults


def test_the_page_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run python -m tests.faults"


def test_every_test_of_a_fault_is_on_the_page() -> None:
    listed = {name for _, name, _ in faults()}
    written = {
        f"tests/faults/{path.name}::{node.name}"
        for path in HERE.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert written <= listed, f"mark them with @fault: {sorted(written - listed)}"


def test_a_line_is_about_one_thing_and_fits_a_table() -> None:
    cells = [(name, text) for _, name, line in faults() for text in (line.what, line.provoked, line.holds)]
    assert not [name for name, text in cells if not text or "|" in text or "\n" in text]
